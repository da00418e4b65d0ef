// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTTraining
import Testing

@Suite("metrics.jsonl")
final class MetricsTests {
  let folder = TestData.temporaryFolder()
  var path: String { folder + "/metrics.jsonl" }

  deinit { try? FileSystem.remove(folder) }

  func write(_ steps: ClosedRange<Int>, resumingAfter step: Int) throws {
    var writer = try MetricsWriter(path: path, resumingAfter: step)
    for step in steps {
      writer.begin(step: step)
      writer.field("loss", 1 / Double(step))
      writer.field("tokens", -step)
      try writer.end()
    }
    try writer.synchronize()
  }

  func steps() throws -> [Int] {
    try FileSystem.text(path).split(separator: "\n").map {
      try #require(try JSON.parse(String($0))["step"]?.int)
    }
  }

  @Test("Rows are JSON and numbers read back to the same bits")
  func rows() throws {
    var writer = try MetricsWriter(path: path, resumingAfter: 0)
    let values = [
      0, -0.0, 1e-300, 1.0 / 3, 123456789.125, Double.leastNonzeroMagnitude, 1.7976931348623157e308,
      -1e-5, 100,
    ]
    for (i, value) in values.enumerated() {
      writer.begin(step: i + 1)
      writer.field("loss", value)
      writer.field("rewards/chosen", .nan)
      writer.field("norm", -Double.infinity)
      writer.field("tokens", .min)
      try writer.end()
    }
    let lines = try FileSystem.text(path).split(separator: "\n")
    #expect(lines.count == values.count)
    for (line, value) in zip(lines, values) {
      let row = try JSON.parse(String(line))
      #expect(row["loss"]?.double?.bitPattern == value.bitPattern || value == 0, "\(line)")
      #expect(row["rewards/chosen"]?.isNull == true && row["norm"]?.isNull == true)
      #expect(row["tokens"]?.int == .min)
    }
    #expect(
      lines[3]
        == #"{"step":4,"loss":0.3333333333333333,"rewards/chosen":null,"norm":null,"tokens":-9223372036854775808}"#
    )
  }

  @Test("Resuming drops the rows beyond its checkpoint and a torn last one")
  func resume() throws {
    try write(1...10, resumingAfter: 0)
    try write(7...8, resumingAfter: 6)
    #expect(try steps() == Array(1...8))
    let whole = try FileSystem.read(path)
    try FileSystem.write(whole.dropLast(5), to: path)
    try write(8...9, resumingAfter: 8)
    #expect(try steps() == Array(1...9))
    try FileSystem.write(try FileSystem.read(path) + Array("{\"step\":10,\"lo\n".utf8), to: path)
    try write(10...11, resumingAfter: 9)
    #expect(try steps() == Array(1...11))
    try write(1...2, resumingAfter: 0)
    #expect(try steps() == [1, 2])
  }
}
