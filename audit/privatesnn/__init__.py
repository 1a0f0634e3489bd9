"""PrivateSNN as its authors describe it, in float: the baseline beside this project's recipes.

Kim, Venkatesha and Panda, AAAI 2022 (arXiv 2104.03414). A bias-free ANN becomes a network of
integrate-and-fire neurons with soft reset, fed by a signed Poisson code, its thresholds the
largest currents on synthetic images, and is then trained in the spiking domain. It does not fit
Loihi's neuron and is never exported. docs/privatesnn.md tells what of it was read where: the
code its authors published ends before the training and holds no attack.
"""
