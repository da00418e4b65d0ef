// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

/// An earlier `paft bench --json`, to compare with row by row.
struct BenchBaseline {
  private var seconds: [String: Double] = [:]

  /// Throws 66 when there is no such file, 65 where a line is no row.
  init(path: String) throws {
    guard FileSystem.isFile(path) else {
      throw Fault(.missingInput, "--baseline \(path): no such file")
    }
    let text = try FileSystem.text(path, limit: 256 << 20)
    for (index, line) in text.split(separator: "\n").enumerated() {
      let place = "\(path):\(index + 1)"
      let row = try JSON.parse(line: Array(line.utf8), at: place)
      guard let kernel = row["kernel"]?.string, let dtype = row["dtype"]?.string,
        let shape = row["shape"]?.string, let pass = row["pass"]?.string,
        let threads = row["threads"]?.int, let isa = row["isa"]?.string,
        let median = row["median_seconds"]?.double, median > 0
      else {
        throw Fault(
          .data, "\(place): found no benchmark row, expected what --json writes",
          hint: "paft bench --json > \(path)")
      }
      let key = BenchRow.key(
        kernel: kernel, dtype: dtype, shape: shape, pass: pass, threads: threads, isa: isa)
      seconds[key] = median
    }
  }

  /// The row with the earlier median beside its own, if there was one.
  func compared(_ row: BenchRow) -> BenchRow {
    var row = row
    row.baselineSeconds = seconds[row.key]
    return row
  }
}
