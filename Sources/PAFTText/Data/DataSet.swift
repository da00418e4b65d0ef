// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// The rows of a data file: JSON lines, or one JSON array of objects. Which shape a row has is
/// detected row by row (`RecordFormat`).
package struct DataSet: Sendable {
  package let path: String
  package let rows: [Row]
  /// Rows that could not be used, in order, each with its place; only with `maxBadRows` above 0.
  package let badRows: [Fault]

  package init(path: String, rows: [Row], badRows: [Fault] = []) {
    self.path = path
    self.rows = rows
    self.badRows = badRows
  }

  /// Reads a whole file into memory. A byte order mark, CR LF, empty lines and a missing last
  /// newline are all right. A folder stands for the `train.jsonl` in it.
  ///
  /// - Parameter maxBadRows: so many rows may be bad and are left out; one more is an error.
  /// - Throws: exit code 66 if there is no file, 65 for what is in it, with `file:line`.
  package static func load(path: String, maxBadRows: Int = 0) throws(Fault) -> DataSet {
    var path = path
    if FileSystem.isFolder(path), FileSystem.isFile(path + "/train.jsonl") {
      path += "/train.jsonl"
    }
    let bytes = try FileSystem.read(path, limit: sizeLimit)
    return try parse(bytes, path: path, maxBadRows: maxBadRows)
  }

  /// - Parameter path: the name for messages.
  package static func parse(
    _ bytes: [UInt8], path: String, maxBadRows: Int = 0
  ) throws(Fault) -> DataSet {
    try refuseBinary(bytes, path)
    let start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    var reader = RowReader(path: path, maxBadRows: maxBadRows)
    let first = bytes[start...].first { !isSpace($0) }
    if first == UInt8(ascii: "[") {
      try reader.array(Array(bytes[start...]))
    } else {
      try reader.lines(bytes, from: start)
    }
    guard !reader.rows.isEmpty else {
      if let bad = reader.bad.first { throw bad }
      throw Fault(.data, "\(path): no rows, expected JSON lines or a JSON array of objects")
    }
    return DataSet(path: path, rows: reader.rows, badRows: reader.bad)
  }

  /// More text than this has no place in one machine's memory beside a model.
  private static let sizeLimit = 64 << 30

  private static func refuseBinary(_ bytes: [UInt8], _ path: String) throws(Fault) {
    let kinds: [(start: [UInt8], name: String, hint: String)] = [
      ([0x1F, 0x8B], "gzip", "decompress it: gunzip FILE"),
      ([0x28, 0xB5, 0x2F, 0xFD], "zstd", "decompress it: unzstd FILE"),
      (Array("BZh".utf8), "bzip2", "decompress it: bunzip2 FILE"),
      (Array("PAR1".utf8), "Parquet", "convert it: datasets.Dataset.from_parquet(…).to_json(…)"),
      (Array("ARROW1".utf8), "Arrow", "convert it: datasets.Dataset.from_file(…).to_json(…)"),
    ]
    for kind in kinds where bytes.starts(with: kind.start) {
      throw Fault(
        .data, "\(path): a \(kind.name) file, expected JSON lines or a JSON array",
        hint: kind.hint)
    }
  }
}

@inline(__always)
private func isSpace(_ byte: UInt8) -> Bool {
  byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
}

/// Collects rows and bad rows.
private struct RowReader {
  let path: String
  let maxBadRows: Int
  var rows: [Row] = []
  var bad: [Fault] = []

  init(path: String, maxBadRows: Int) {
    self.path = path
    self.maxBadRows = maxBadRows
  }

  /// No honest row is nested deeper.
  private static let limits = JSONLimits(depth: 32, values: 1 << 26)

  mutating func lines(_ bytes: [UInt8], from start: Int) throws(Fault) {
    var at = start
    var number = 0
    while at < bytes.count {
      number += 1
      let end = bytes[at...].firstIndex(of: 0x0A) ?? bytes.count
      let line = bytes[at..<end]
      if !line.allSatisfy(isSpace) {
        let isLast = end == bytes.count
        try take(number, ":") { (place) throws(Fault) in
          try RecordFormat.read(try Self.parse(line, place, isLast: isLast), place: place)
        }
      }
      at = end + 1
    }
  }

  mutating func array(_ bytes: [UInt8]) throws(Fault) {
    let json: JSON
    do { json = try JSON.parse(bytes, source: path, limits: Self.limits) } catch {
      throw Fault(error.exitCode, error.message, hint: error.hint)
    }
    for (i, element) in (json.array ?? []).enumerated() {
      try take(i + 1, " row ") { (place) throws(Fault) in
        try RecordFormat.read(element, place: place)
      }
    }
  }

  private mutating func take(
    _ number: Int, _ separator: String, _ read: (String) throws(Fault) -> Record
  ) throws(Fault) {
    do {
      rows.append(Row(try read(path + separator + String(number)), number: number))
    } catch {
      guard bad.count < maxBadRows else { throw error }
      bad.append(error)
    }
  }

  private static func parse(
    _ line: ArraySlice<UInt8>, _ place: String, isLast: Bool
  ) throws(Fault) -> JSON {
    do {
      return try JSON.parse(Array(line), source: place, limits: limits)
    } catch {
      // The parser counts lines within its text; here the place has the line already.
      let long = "\(place) line \(error.line), byte \(error.offset): "
      let reason = error.message.dropFirst(long.count)
      var hint = error.hint
      if case .endOfInput = error.reason {
        hint =
          isLast
          ? "the last line is cut off: the file may not have been written to its end"
          : "each line holds one whole JSON object; a pretty-printed file must be one array"
      }
      throw Fault(
        .data, "\(place): byte \(error.offset) of the line: \(reason)", hint: hint)
    }
  }
}
