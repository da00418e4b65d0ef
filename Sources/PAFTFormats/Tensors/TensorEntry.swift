// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// One tensor of a mapped file. It keeps the file mapped, so its bytes stay valid as long as it.
package struct TensorEntry: @unchecked Sendable {
  // Sendable: the bytes are mapped read-only and the owner is immutable.

  package let name: String
  package let dtype: DType
  package let shape: [Int]
  /// Elements; 1 for rank 0.
  package let count: Int
  /// Row-major, little-endian, at any alignment.
  package let bytes: UnsafeRawBufferPointer
  let file: MappedFile

  /// File the tensor is in.
  package var path: String { file.path }

  /// All elements as Float; `target` has room for `count`. Integer and bool tensors are refused.
  package func copyFloats(into target: UnsafeMutablePointer<Float>) throws(Fault) {
    try copyFloats(0..<count, into: target)
  }

  /// Elements `range` (row-major order) as Float, so that big tensors can be read by rows.
  package func copyFloats(_ range: Range<Int>, into target: UnsafeMutablePointer<Float>)
    throws(Fault)
  {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "range outside the tensor")
    guard dtype.isFloat else {
      throw Fault(
        .data,
        "\(path): tensor \(quoted(name)) has type \(dtype.rawValue), expected a float type")
    }
    guard let base = bytes.baseAddress, !range.isEmpty else { return }
    withExtendedLifetime(file) { _ = FloatDecoding.decode(base, dtype, range, into: target) }
  }

  package func floats() throws(Fault) -> [Float] {
    var failure: Fault?
    let values = [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      do throws(Fault) {
        if count > 0 { try copyFloats(into: buffer.baseAddress!) }
        filled = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return values
  }

  /// Asks the kernel to read the tensor ahead of its use.
  package func prefetch() { if let range = fileRange { file.prefetch(range) } }

  /// Lets the tensor's pages go after use; streaming readers stay small in memory.
  package func release() { if let range = fileRange { file.release(range) } }

  /// Lets several tensors go, neighbours in a file by one call: each interrupts the other CPUs.
  package static func release(_ entries: [TensorEntry]) {
    var runs: [(file: MappedFile, range: Range<Int>)] = []
    let placed = entries.compactMap { entry in entry.fileRange.map { (entry.file, $0) } }
    for (file, range) in placed.sorted(by: {
      (ObjectIdentifier($0.0), $0.1.lowerBound) < (ObjectIdentifier($1.0), $1.1.lowerBound)
    }) {
      if let last = runs.last, last.file === file, range.lowerBound <= last.range.upperBound {
        let end = max(last.range.upperBound, range.upperBound)
        runs[runs.count - 1].range = last.range.lowerBound..<end
      } else {
        runs.append((file, range))
      }
    }
    for (file, range) in runs { file.release(range) }
  }

  /// The same for elements `elements` alone.
  package func release(_ elements: Range<Int>) {
    guard let range = fileRange else { return }
    let start = range.lowerBound + elements.lowerBound * dtype.size
    file.release(start..<(start + elements.count * dtype.size))
  }

  private var fileRange: Range<Int>? {
    guard let start = bytes.baseAddress, let base = file.bytes.baseAddress else { return nil }
    let offset = start - base
    return offset..<(offset + bytes.count)
  }
}
