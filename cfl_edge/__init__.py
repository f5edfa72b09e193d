"""Learn to recognise things on the board that sees them, without backpropagation.

Notation, once for the whole package (CFL: Contrastive Forward Learning with label embeddings):

=========  ==============  ================================================================
symbol     in the code     meaning
=========  ==============  ================================================================
N, Z       N, Z            samples in a batch, classes
C, K       C, K            channels of a layer, positions of a layer (height times width)
D          embeddings      label embeddings, (Z, C_D)
h          h               features of a layer, (N, C, K) or (N, C, H, W)
h-bar      h_mean          features averaged over the positions, (N, C)
tau        temperature     divides the similarities of the feature contrastive loss
epsilon    noise           Gaussian noise on the embeddings, standard deviation 1 / C
lambda_1   batch_weight    weight of the batch contrastive loss, Eq. 4
lambda_2   dict_weight     weight of the dictionary contrastive loss, Eq. 6
lambda_3   feat_weight     weight of the feature contrastive loss, Eq. 9
=========  ==============  ================================================================
"""

__version__ = "0.1.0"
