// SPDX-License-Identifier: Apache-2.0

import PAFT
import Testing

@Suite("paft bench gemm")
struct BenchTests {
  @Test("peak, stream and three passes per number of threads, consistent in every format")
  func rows() throws {
    var verb = BenchVerb()
    verb.shapes = [try #require(BenchVerb.Shape("13x70x64"))]
    verb.repetitions = 3
    verb.compute = ComputeOptions(threads: 1, dtype: .f32)
    let rows = try verb.run()
    #expect(rows.map(\.kernel) == ["peak", "stream", "gemm", "gemm", "gemm"])
    #expect(rows.map(\.pass) == ["forward", "forward", "forward", "dgrad", "wgrad"])
    for row in rows {
      #expect(row.threads == 1 && row.dtype == "f32" && row.medianSeconds > 0)
      guard let fraction = row.peakFraction else { continue }
      let flops = 2.0 * 13 * 70 * 64
      #expect(abs(row.gigaflops * 1e9 * row.medianSeconds / flops - 1) < 1e-9)
      #expect(abs(fraction * rows[0].gigaflops / row.gigaflops - 1) < 1e-9)
    }
    // Forward: x and y as Floats, W packed as Floats.
    let bytes = Double(4 * (13 * 64 + 13 * 70 + 70 * 64))
    #expect(abs(rows[2].gigabytes * 1e9 * rows[2].medianSeconds / bytes - 1) < 1e-9)

    let csv = BenchRow.csv(rows).split(separator: "\n")
    let header = """
      kernel,dtype,shape,pass,threads,median_seconds,gflops,gbytes_per_second,peak_fraction,isa,\
      commit,machine
      """
    #expect(String(csv[0]) == header)
    #expect(csv.count == 6 && csv[3].hasPrefix("gemm,f32,13x70x64,forward,1,"))
    #expect(BenchRow.markdown(rows).split(separator: "\n").count == 7)
    #expect(rows[2].json.contains("\"pass\":\"forward\""))
  }

  @Test(
    "shapes that are none",
    arguments: ["", "1x2", "0x1x1", "1x1x-1", "1048577x1x1", "axbxc", "1x2x3x4"])
  func shapes(_ text: String) { #expect(BenchVerb.Shape(text) == nil) }

  @Test("repetitions out of range are a usage error", arguments: [0, -1, 1001])
  func repetitions(_ count: Int) {
    var verb = BenchVerb()
    verb.repetitions = count
    let error = #expect(throws: PAFTError.self) { try verb.run() }
    #expect(error?.exitCode == 64)
  }
}
