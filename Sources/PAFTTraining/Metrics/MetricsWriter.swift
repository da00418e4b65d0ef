// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTFormats

/// `metrics.jsonl`: one JSON object a step, appended with a single write, so that a reader never sees
/// half a row of a living process. Numbers are written shortest that read back to the same bits; what
/// is not finite becomes null. The row is built in one buffer that is kept.
///
///     writer.begin(step: 12); writer.field("loss", loss); try writer.end()
package struct MetricsWriter: ~Copyable {
  private let file: OutputFile
  private var row: MetricsRow

  /// Opens the log at `path`. Rows of steps beyond `step` (a run that went further than its last
  /// checkpoint) and a torn last row are removed first; `step` 0 starts an empty log.
  package init(path: String, resumingAfter step: Int) throws {
    if FileSystem.exists(path) {
      let bytes = try FileSystem.read(path)
      let kept = Self.kept(bytes, step: step)
      if kept < bytes.count { try FileSystem.replace(path, with: bytes[..<kept]) }
    }
    file = try OutputFile(appendingTo: path)
    row = MetricsRow()
  }

  package mutating func begin(step: Int) {
    row.clear()
    row.put("{\"step\":")
    row.put(step)
  }

  package mutating func field(_ name: StaticString, _ value: Double) {
    key(name)
    row.put(value)
  }

  package mutating func field(_ name: StaticString, _ value: Int) {
    key(name)
    row.put(value)
  }

  package mutating func end() throws(Fault) {
    row.put("}\n")
    try row.bytes.withRawBytes { (bytes) throws(Fault) in try file.write(bytes) }
  }

  /// Before a checkpoint, so that no row up to its step can be lost once it is durable.
  package borrowing func synchronize() throws(Fault) { try file.synchronize() }

  /// `name` needs no escapes: it is one of ours.
  private mutating func key(_ name: StaticString) {
    row.put(",\"")
    row.put(name)
    row.put("\":")
  }

  /// Bytes up to the end of the last whole row at or before `step`.
  private static func kept(_ bytes: [UInt8], step: Int) -> Int {
    var end = 0
    while let newline = bytes[end...].firstIndex(of: UInt8(ascii: "\n")) {
      guard let row = try? JSON.parse(Array(bytes[end..<newline]), source: "metrics"),
        let at = row["step"]?.int, at <= step
      else { break }
      end = newline + 1
    }
    return end
  }
}
