// SPDX-License-Identifier: Apache-2.0

/// Proximal steps beside the kernel `softThreshold_f32` (uniform threshold, delta against a base).
package enum SoftThreshold {
  /// x <- sign(x) * max(|x| - threshold, 0): LoRA factors, whose base is zero.
  package static func factor(_ x: UnsafeMutablePointer<Float>, threshold: Float, count: Int) {
    for i in 0..<count { x[i] = soft(x[i], threshold) }
  }

  @inline(__always)
  private static func soft(_ x: Float, _ k: Float) -> Float {
    if x > k { return x - k }
    if x < -k { return x + k }
    // A NaN must stay one: it is the only sign that something went wrong.
    return x.isNaN ? x : 0
  }
}
