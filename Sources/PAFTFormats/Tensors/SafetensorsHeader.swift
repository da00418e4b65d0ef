// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// A parsed and checked header. Grammar of the file:
///
///     u64 n (little-endian) | n bytes of JSON | data
///     JSON = {"__metadata__": {key: string, …}?, name: {"dtype", "shape", "data_offsets"}, …}
///
/// The JSON starts with `{` and may end in white space. Offsets count from the start of the data;
/// sorted by them the tensors cover the data exactly: no hole, no overlap, last end = end of file.
/// Zero-size tensors and rank 0 are legal.
struct SafetensorsHeader {
  /// The format's own cap.
  static let maximumBytes = 100_000_000
  /// More dimensions than any tensor library has; bounds the work on hostile shapes.
  static let maximumRank = 64

  struct Entry {
    var name: String
    var dtype: DType
    var shape: [Int]
    var count: Int
    /// Bytes, from the start of the data.
    var range: Range<Int>
  }

  /// In order of their data.
  var entries: [Entry] = []
  var metadata: [(key: String, value: String)] = []
  var dataOffset = 0

  init(_ file: UnsafeRawBufferPointer, path: String) throws(SafetensorsError) {
    do throws(SafetensorsError.Reason) { try parse(file, path) } catch {
      throw SafetensorsError(path: path, reason: error)
    }
  }

  private mutating func parse(_ file: UnsafeRawBufferPointer, _ path: String)
    throws(SafetensorsError.Reason)
  {
    guard file.count >= 8 else { throw .tooShort(bytes: file.count) }
    let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
    guard length <= Self.maximumBytes else { throw .headerTooLarge(bytes: length) }
    let headerBytes = Int(length)
    guard headerBytes <= file.count - 8 else {
      throw .headerBeyondFile(header: headerBytes, file: file.count)
    }
    guard headerBytes > 0 else { throw .headerEmpty }
    guard file[8] == UInt8(ascii: "{") else { throw .headerNotObject(byte: file[8]) }
    dataOffset = 8 + headerBytes

    let text = UnsafeRawBufferPointer(rebasing: file[8..<dataOffset])
    // The shortest entry has 6 bytes a value, so this bound never meets an honest file.
    let limits = JSONLimits(depth: 8, values: headerBytes / 4 + 16)
    let json: JSON
    do throws(JSONError) { json = try JSON.parse(text, source: path, limits: limits) } catch {
      throw .headerNotJSON(error)
    }
    // A text that starts with '{' and parses is an object.
    guard case .object(let members) = json else { throw .headerNotObject(byte: file[8]) }

    entries.reserveCapacity(members.count)
    for (name, value) in members {
      if name == "__metadata__" {
        metadata = try Self.strings(value)
      } else {
        entries.append(try Self.entry(name, value))
      }
    }
    try checkLayout(dataBytes: file.count - dataOffset)
  }

  private typealias Reason = SafetensorsError.Reason

  private static func strings(_ value: JSON) throws(Reason) -> [(key: String, value: String)] {
    guard case .object(let members) = value else { throw .badMetadata(key: nil) }
    var pairs: [(key: String, value: String)] = []
    for (key, value) in members {
      guard case .string(let text) = value else { throw .badMetadata(key: key) }
      pairs.append((key, text))
    }
    return pairs
  }

  private static func entry(_ name: String, _ value: JSON) throws(Reason) -> Entry {
    guard case .object(let fields) = value else { throw .entryNotObject(tensor: name) }
    for key in fields.keys where !["dtype", "shape", "data_offsets"].contains(key) {
      throw .unknownField(tensor: name, field: key)
    }
    guard let typeName = fields["dtype"] else {
      throw .missingField(tensor: name, field: "dtype")
    }
    guard let dtype = typeName.string.flatMap({ DType(rawValue: $0) }) else {
      throw .unknownType(tensor: name, found: typeName.string ?? typeName.kind)
    }
    guard let shapeValue = fields["shape"] else {
      throw .missingField(tensor: name, field: "shape")
    }
    guard case .array(let dimensions) = shapeValue else {
      throw .badShape(tensor: name, found: shapeValue.kind)
    }
    guard dimensions.count <= maximumRank else {
      throw .badShape(tensor: name, found: "\(dimensions.count) dimensions")
    }
    var shape: [Int] = []
    for dimension in dimensions {
      guard case .integer(let size) = dimension, size >= 0 else {
        throw .badShape(tensor: name, found: dimension.serialized())
      }
      shape.append(Int(size))
    }
    guard let offsets = fields["data_offsets"] else {
      throw .missingField(tensor: name, field: "data_offsets")
    }
    guard case .array(let pair) = offsets, pair.count == 2 else {
      throw .badOffsets(tensor: name, found: offsets.kind)
    }
    guard case .integer(let begin) = pair[0], case .integer(let end) = pair[1], begin >= 0, end >= 0
    else {
      throw .badOffsets(tensor: name, found: "\(pair[0].serialized()), \(pair[1].serialized())")
    }
    guard begin <= end else {
      throw .offsetsReversed(tensor: name, begin: Int(begin), end: Int(end))
    }
    guard let count = product(shape), let bytes = product([count, dtype.size]) else {
      throw .sizeOverflow(tensor: name)
    }
    guard bytes == Int(end - begin) else {
      throw .sizeMismatch(tensor: name, offsets: Int(end - begin), shape: bytes)
    }
    return Entry(
      name: name, dtype: dtype, shape: shape, count: count, range: Int(begin)..<Int(end))
  }

  private mutating func checkLayout(dataBytes: Int) throws(Reason) {
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    var expected = 0
    for entry in entries {
      let begin = entry.range.lowerBound
      guard entry.range.upperBound <= dataBytes else {
        throw .outsideFile(tensor: entry.name, end: entry.range.upperBound, data: dataBytes)
      }
      guard begin <= expected else {
        throw .hole(tensor: entry.name, begin: begin, expected: expected)
      }
      guard begin >= expected else {
        throw .overlap(tensor: entry.name, begin: begin, expected: expected)
      }
      expected = entry.range.upperBound
    }
    guard expected == dataBytes else { throw .trailingBytes(end: expected, data: dataBytes) }
  }
}

extension SafetensorsError.Reason: Error {}

/// The product, or nil when it does not fit an Int. Factors are at least 0.
package func product(_ factors: [Int]) -> Int? {
  // A zero anywhere makes the product 0, whatever the others would overflow to.
  if factors.contains(0) { return 0 }
  var result = 1
  for factor in factors {
    let (next, overflow) = result.multipliedReportingOverflow(by: factor)
    guard !overflow else { return nil }
    result = next
  }
  return result
}
