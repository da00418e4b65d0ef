// SPDX-License-Identifier: Apache-2.0

package import PAFTKernelInterface

/// A reduction with the same bits for any number of threads: a flat buffer is cut into blocks of a
/// fixed size, each block is reduced alone into its own slot, and the slots are added in order.
package struct FixedBlocks: Sendable, Equatable {
  /// 64 Ki floats: small enough to spread a LoRA's parameters, large enough to hide the call.
  package static let size = 1 << 16

  package let elements: Int
  package var count: Int { (elements + Self.size - 1) / Self.size }

  package init(elements: Int) { self.elements = elements }

  package func range(_ block: Int) -> Range<Int> {
    let lower = block * Self.size
    return lower..<min(elements, lower + Self.size)
  }

  /// Sum of squares of one block into `partials[block]`. NaN and infinity survive the sum.
  package func sumSquares(
    _ x: UnsafePointer<Float>, block: Int, into partials: UnsafeMutablePointer<Double>,
    _ kernels: borrowing KernelTable
  ) {
    let range = range(block)
    partials[block] = kernels.vectors.sumSquares_f32(x + range.lowerBound, range.count)
  }

  package func total(_ partials: UnsafePointer<Double>) -> Double {
    var sum = 0.0
    for block in 0..<count { sum += partials[block] }
    return sum
  }
}

/// The global gradient norm and what clipping makes of it (`torch.nn.utils.clip_grad_norm_`).
package struct GradientNorm: Sendable, Equatable {
  /// Of the gradient after `scale`, before clipping; L1 is not part of it.
  package let value: Double
  /// What the optimizer multiplies gradients with: `scale` times the clipping factor.
  package let gradientScale: Double

  /// `scale` turns sums into means (1 / tokens). `maximum` <= 0 or infinite: no clipping.
  package init(sumSquares: Double, scale: Double, maximum: Double) {
    value = sumSquares.squareRoot() * abs(scale)
    let clips = maximum > 0 && maximum < .infinity
    gradientScale = clips ? scale * min(1, maximum / (value + 1e-6)) : scale
  }

  /// False: do not step.
  package var isFinite: Bool { value.isFinite }
}
