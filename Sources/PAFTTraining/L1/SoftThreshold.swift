// SPDX-License-Identifier: Apache-2.0

/// Proximal steps beside the kernel `softThreshold_f32` (uniform threshold, delta against a base).
package enum SoftThreshold {
  /// x <- sign(x) * max(|x| - threshold, 0): LoRA factors, whose base is zero.
  package static func factor(_ x: UnsafeMutablePointer<Float>, threshold: Float, count: Int) {
    for i in 0..<count { x[i] = soft(x[i], threshold) }
  }

  /// p <- base + soft(p - base, threshold / (sqrt(v / correction2) + epsilon)): the prox of the
  /// penalty in Adam's metric. `threshold` is lr * lambda.
  package static func preconditioned(
    _ p: UnsafeMutablePointer<Float>, base: UnsafePointer<Float>, second v: UnsafePointer<Float>,
    threshold: Float, correction2: Float, epsilon: Float, count: Int
  ) {
    for i in 0..<count {
      let width = threshold / ((v[i] / correction2).squareRoot() + epsilon)
      let delta = p[i] - base[i]
      p[i] = abs(delta) <= width ? base[i] : base[i] + soft(delta, width)
    }
  }

  @inline(__always)
  private static func soft(_ x: Float, _ k: Float) -> Float {
    if x > k { return x - k }
    if x < -k { return x + k }
    // A NaN must stay one: it is the only sign that something went wrong.
    return x.isNaN ? x : 0
  }
}
