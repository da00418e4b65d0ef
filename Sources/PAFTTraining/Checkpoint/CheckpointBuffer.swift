// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// A named piece of training state: weights or adapter, moments, reference log-probabilities. A view
/// of the branch's own memory, written to disk from there and read back into there, so a checkpoint
/// costs no second copy.
package struct CheckpointBuffer: @unchecked Sendable {
  package let name: String
  package let dtype: DType
  package let count: Int
  package let bytes: UnsafeMutableRawBufferPointer

  /// The memory must outlive the value, and nobody may write it while it is saved.
  package init(_ name: String, _ values: UnsafeMutablePointer<Float>, count: Int) {
    self.init(name, .f32, UnsafeMutableRawPointer(values), count)
  }

  package init(_ name: String, _ values: UnsafeMutablePointer<Double>, count: Int) {
    self.init(name, .f64, UnsafeMutableRawPointer(values), count)
  }

  package init(_ name: String, _ values: UnsafeMutablePointer<Int8>, count: Int) {
    self.init(name, .i8, UnsafeMutableRawPointer(values), count)
  }

  package init(_ name: String, _ values: UnsafeMutablePointer<UInt8>, count: Int) {
    self.init(name, .u8, UnsafeMutableRawPointer(values), count)
  }

  /// BF16.
  package init(_ name: String, _ values: UnsafeMutablePointer<UInt16>, count: Int) {
    self.init(name, .bf16, UnsafeMutableRawPointer(values), count)
  }

  private init(_ name: String, _ dtype: DType, _ base: UnsafeMutableRawPointer, _ count: Int) {
    self.name = name
    self.dtype = dtype
    self.count = count
    bytes = UnsafeMutableRawBufferPointer(start: base, count: count * dtype.size)
  }
}
