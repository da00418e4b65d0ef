// SPDX-License-Identifier: Apache-2.0

/// A text buffer that grows to the longest row and is then reused: formatting a number into it
/// allocates nothing.
struct MetricsRow: TextOutputStream {
  private(set) var bytes: [UInt8] = []

  init() { bytes.reserveCapacity(4096) }

  mutating func clear() { bytes.removeAll(keepingCapacity: true) }

  mutating func put(_ text: StaticString) {
    bytes.append(
      contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  mutating func put(_ value: Double) {
    if value.isFinite { value.write(to: &self) } else { put("null") }
  }

  mutating func put(_ value: Int) {
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    let first = bytes.count
    var rest = value.magnitude
    repeat {
      bytes.append(UInt8(ascii: "0") + UInt8(rest % 10))
      rest /= 10
    } while rest > 0
    // Not by reversing the slice: it would copy the digits to the heap.
    var (low, high) = (first, bytes.count - 1)
    while low < high {
      bytes.swapAt(low, high)
      low += 1
      high -= 1
    }
  }

  // MARK: - TextOutputStream

  mutating func write(_ text: String) { bytes.append(contentsOf: text.utf8) }

  /// Where the standard library delivers the digits of a number without making a String of them.
  mutating func _writeASCII(_ buffer: UnsafeBufferPointer<UInt8>) {
    bytes.append(contentsOf: buffer)
  }
}
