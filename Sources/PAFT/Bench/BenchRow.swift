// SPDX-License-Identifier: Apache-2.0

import PAFTFormats
import PAFTKernels
import PAFTOps

/// How often something ran in how much time.
struct Measurement: Sendable {
  var kernel: String
  var shape: String
  var pass: String
  var seconds: Double
  var flops: Double
  var bytes: Double
  /// Operations per second to compare with; nil where the row is itself a limit.
  var peak: Double?

  var flopsPerSecond: Double { flops / seconds }

  func row(_ executor: Executor, commit: String, machine: String) -> BenchRow {
    BenchRow(
      kernel: kernel, dtype: executor.compute.rawValue, shape: shape, pass: pass,
      threads: executor.workers, medianSeconds: seconds, gigaflops: flopsPerSecond * 1e-9,
      gigabytes: bytes / seconds * 1e-9, peakFraction: peak.map { flopsPerSecond / $0 },
      isa: executor.kernels.name, commit: commit, machine: machine)
  }
}

/// One line of a benchmark: the same columns as JSON, CSV and Markdown.
package struct BenchRow: Sendable {
  package let kernel: String
  package let dtype: String
  package let shape: String
  package let pass: String
  package let threads: Int
  package let medianSeconds: Double
  package let gigaflops: Double
  package let gigabytes: Double
  package let peakFraction: Double?
  package let isa: String
  package let commit: String
  package let machine: String

  private static let names = [
    "kernel", "dtype", "shape", "pass", "threads", "median_seconds", "gflops",
    "gbytes_per_second", "peak_fraction", "isa", "commit", "machine",
  ]

  package var json: String {
    let value: JSON = [
      "kernel": .string(kernel), "dtype": .string(dtype), "shape": .string(shape),
      "pass": .string(pass), "threads": JSON(threads), "median_seconds": JSON(medianSeconds),
      "gflops": JSON(gigaflops), "gbytes_per_second": JSON(gigabytes),
      "peak_fraction": peakFraction.map { JSON($0) } ?? .null, "isa": .string(isa),
      "commit": .string(commit), "machine": .string(machine),
    ]
    return value.serialized()
  }

  /// Cells in the order of the columns; a limit has no share of itself.
  private var cells: [String] {
    [
      kernel, dtype, shape, pass, "\(threads)", Numbers.fixed(medianSeconds, 7),
      Numbers.fixed(gigaflops, 2), Numbers.fixed(gigabytes, 2),
      peakFraction.map { Numbers.fixed($0, 4) } ?? "", isa, commit, machine,
    ]
  }

  package static func csv(_ rows: [BenchRow]) -> String {
    func line(_ cells: [String]) -> String {
      cells.map { cell in
        guard cell.contains(where: { ",\"\n".contains($0) }) else { return cell }
        return "\""
          + cell.split(separator: "\"", omittingEmptySubsequences: false)
          .joined(separator: "\"\"") + "\""
      }.joined(separator: ",") + "\n"
    }
    return line(names) + rows.map { line($0.cells) }.joined()
  }

  package static func markdown(_ rows: [BenchRow]) -> String {
    var table = TextTable(names)
    for row in rows { table.add(row.cells) }
    return table.markdown
  }

  /// For a terminal: what is the same in every row stays out.
  package static func table(_ rows: [BenchRow]) -> String {
    var table = TextTable([
      "kernel", "dtype", "shape", "pass", "threads", "median ms", "GFLOP/s", "GB/s", "of peak",
      "isa",
    ])
    for row in rows {
      table.add([
        row.kernel, row.dtype, row.shape, row.pass, "\(row.threads)",
        Numbers.fixed(row.medianSeconds * 1e3, 3), Numbers.fixed(row.gigaflops, 1),
        Numbers.fixed(row.gigabytes, 2), row.peakFraction.map { Numbers.percent($0) } ?? "",
        row.isa,
      ])
    }
    return table.text
  }
}
