// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTKernelInterface

/// Stochastic gradient descent as PyTorch has it: d = s*g + decay*p; u = momentum*u + d (u = 0 at
/// first); p -= lr*u. Without momentum no state at all, which is why one would choose it.
package struct SGD: Sendable, Equatable {
  package let momentum: Double
  package let weightDecay: Double

  package init(momentum: Double = 0, weightDecay: Double = 0) throws(Fault) {
    guard momentum >= 0, momentum < 1 else {
      throw Fault(.configuration, "momentum: found \(momentum), expected 0 <= x < 1")
    }
    try checkDecay(weightDecay)
    self.momentum = momentum
    self.weightDecay = weightDecay
  }

  package func scalars(learningRate: Double, decays: Bool, gradientScale: Double) -> SGDScalars {
    SGDScalars(
      learningRate: Float(learningRate), momentum: Float(momentum),
      weightDecay: decays ? Float(weightDecay) : 0, gradientScale: Float(gradientScale))
  }

  static func update(
    _ p: UnsafeMutablePointer<Float>, _ momentum: UnsafeMutablePointer<Float>?,
    _ g: UnsafePointer<Float>, _ n: Int, _ s: SGDScalars, _ kernels: borrowing KernelTable
  ) {
    if let u = momentum {
      kernels.vectors.scale_f32(u, s.momentum, n)
      kernels.vectors.axpy_f32(u, g, s.gradientScale, n)
      if s.weightDecay != 0 { kernels.vectors.axpy_f32(u, p, s.weightDecay, n) }
      kernels.vectors.axpy_f32(p, u, -s.learningRate, n)
    } else {
      if s.weightDecay != 0 { kernels.vectors.scale_f32(p, 1 - s.learningRate * s.weightDecay, n) }
      kernels.vectors.axpy_f32(p, g, -s.learningRate * s.gradientScale, n)
    }
  }
}

/// Scalars of one SGD step.
package struct SGDScalars: Sendable, Equatable {
  package var learningRate: Float
  package var momentum: Float
  package var weightDecay: Float
  package var gradientScale: Float
}
