"""Feedback alignment: an error comes back through fixed random weights.

FA walks backward layer by layer as backpropagation does; DFA sends the output's error to each layer
at once. Either way the weights of the forward pass are not needed behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cfl_edge.lab.rules.feedback import direct_feedback, project, replace_backward_weights
from cfl_edge.lab.rules.labelled_network import LabelledNetwork, NetworkOptions, output_shapes
from cfl_edge.lab.rules.rule import Rule, softmax_delta


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions(NetworkOptions):
    """The options of `FeedbackAlignment`, and those of `NetworkOptions`.

    Args:
        direct: DFA instead of FA.
    """

    direct: bool = False


class FeedbackAlignment(Rule[AlignmentOptions]):
    """FA (Lillicrap et al. 2014, 2016) and DFA (Nokland 2016): fixed random weights instead of W^T.

    FA is backpropagation with B instead of W^T; rectifiers and normalisations are differentiated as
    they are. With DFA the gradient at the output h_l of a layer is (softmax(y-hat) - y*) B_l / N;
    from there, the layer's own block is differentiated, and nothing crosses its input. The
    classifier, which is the prediction, gets its true gradient. A layer has to wait for the error:
    its graph lives until the output is there.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> rule = FeedbackAlignment((1, 8, 8), 2, AlignmentOptions(direct=True))
        >>> x, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        >>> losses = [rule.learn(x, labels)["classifier"] for _ in range(10)]
        >>> losses[-1] < losses[0]
        True
    """

    Options = AlignmentOptions

    def build(self) -> None:
        """Build the network, its feedback, and one optimizer of all."""
        network = self.options.build_network(self.input_shape)
        self.model = LabelledNetwork(network, self.input_shape, self.classes, embeddings=False)
        if self.options.direct:
            for i, shape in enumerate(output_shapes(network, self.input_shape)):
                self.register_buffer(f"feedback{i}", direct_feedback(self.classes, shape))
        else:
            replace_backward_weights(self.model)
        self.optimizers = [self.options.build(self.model.parameters())]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Run all layers, then bring the error to each of them and take one step."""
        loss = self.gradients(x, labels)
        self.optimizers[0].step()
        return {"classifier": loss}

    def gradients(self, x: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of a batch in the parameters.

        Args:
            x: Normalised images, (N, C, H, W).
            labels: Class indices, (N,).

        Returns:
            The cross entropy, a scalar, detached.
        """
        outputs = []
        for layer in self.model.layers:
            outputs.append(layer(x))
            x = outputs[-1].detach() if self.options.direct else outputs[-1]
        logits = self.model.logits(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]  # with DFA it reaches the classifier only
        if self.options.direct:
            error = softmax_delta(logits.detach(), F.one_hot(labels, self.classes))
            for i, h in enumerate(outputs):
                h.backward(project(error, self.get_buffer(f"feedback{i}")))
        return loss.detach()

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of the classifier."""
        return {"classifier": self.model(x)}
