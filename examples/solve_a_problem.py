"""Quantize one output channel as well as it can be done at all, and prove that it is the best."""

import numpy as np

import pvqbounds as pvq


def main() -> None:
    generator = np.random.default_rng(0)
    inputs = np.maximum(
        generator.normal(size=(500, 24)) @ generator.normal(size=(24, 24)), 0.0
    )  # after a ReLU
    weight = generator.normal(size=24)

    gram = pvq.Gram(inputs.T @ inputs / len(inputs))
    quantization = pvq.IntegerLeastSquares(gram, weight, scale=0.35, qmin=-8, qmax=7)
    pruning = pvq.SparseLeastSquares(gram, weight, nnz=6)

    for name, problem in (("4 bits", quantization), ("keep 6 of 24", pruning)):
        bounds = pvq.solve(problem)
        print(f"{name}: {bounds}")
        print(f"  proved again from its certificate: {pvq.verify(problem, bounds).holds}")
    nearest = quantization.error(quantization.codes_of_nearest()).upper
    print(f"round to nearest: {10 * np.log10(quantization.signal.middle / nearest):.3f} dB")


if __name__ == "__main__":
    main()
