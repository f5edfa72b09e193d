"""The paper's experiments: data, training and scores of CFL and of what it is compared with."""
