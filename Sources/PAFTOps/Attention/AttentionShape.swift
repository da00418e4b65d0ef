// SPDX-License-Identifier: Apache-2.0

/// Shape of an attention layer and which keys a query sees.
package struct AttentionShape: Sendable, Equatable {
  package var heads: Int
  package var keyHeads: Int
  package var headSize: Int
  /// Keys a query sees, itself included; nil for all earlier ones.
  package var window: Int?

  package init(heads: Int, keyHeads: Int, headSize: Int, window: Int?) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.window = window
  }

  package var group: Int { heads / keyHeads }
  package var scale: Float { 1 / Float(headSize).squareRoot() }
  /// The scale of scores whose exponential is a power of two: scale * log2(e).
  var binaryScale: Float { Float(1.4426950408889634 / Double(headSize).squareRoot()) }

  /// First key that query `position` (counted inside its sequence) sees.
  @inline(__always) func firstKey(_ position: Int) -> Int {
    guard let window else { return 0 }
    return max(0, position - window + 1)
  }
}
