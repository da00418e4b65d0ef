// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTOps

/// `paft bench gemm`: what a linear layer of M tokens, N outputs and K inputs reaches forward, to
/// its input's gradient and to its weight's, beside what this machine can do in the same run.
package struct BenchVerb: Sendable {
  package struct Shape: Sendable, Equatable {
    package let m: Int
    package let n: Int
    package let k: Int

    /// From `MxNxK`.
    package init?(_ text: String) {
      let parts = text.lowercased().split(separator: "x", omittingEmptySubsequences: false)
        .map { Int($0) }
      guard parts.count == 3, let m = parts[0], let n = parts[1], let k = parts[2],
        [m, n, k].allSatisfy({ $0 >= 1 && $0 <= 1 << 20 }),
        m * n <= 1 << 31, n * k <= 1 << 31, m * k <= 1 << 31
      else { return nil }
      (self.m, self.n, self.k) = (m, n, k)
    }

    package var description: String { "\(m)x\(n)x\(k)" }
    var flops: Double { 2 * Double(m) * Double(n) * Double(k) }
  }

  /// A batch of 512 tokens against a square layer, and those of a 0.5 billion model's layers.
  package static let usualShapes = [
    "512x2048x2048", "1024x896x896", "1024x4864x896", "1024x896x4864",
  ].compactMap(Shape.init)

  package var shapes = BenchVerb.usualShapes
  package var repetitions = 7
  /// Without a number of threads: one, and all that this process is granted.
  package var compute = ComputeOptions()

  package init() {}

  /// Peak and bandwidth first, then the products, per number of threads.
  package func run() throws(PAFTError) -> [BenchRow] {
    try PAFTError.wrapping {
      guard repetitions >= 1, repetitions <= 1000 else {
        throw Fault(.usage, "--repetitions \(repetitions): expected 1 to 1000")
      }
      let machine = try Machine.detect()
      let granted = machine.place(threads: nil).count
      let counts = compute.threads.map { [$0] } ?? (granted == 1 ? [1] : [1, granted])
      let commit = SourceCommit.current ?? "unknown"
      let model = machine.topology.model
      return try counts.flatMap { threads in
        var options = compute
        options.threads = threads
        return try Workbench.run(options, named: "bench", scratch: scratch) { executor in
          measure(executor).map { $0.row(executor, commit: commit, machine: model) }
        }
      }
    }
  }

  private func measure(_ executor: Executor) -> [Measurement] {
    let peak = Roofline.peak(executor)
    return [peak, Roofline.stream(executor)]
      + shapes.flatMap { shape in
        GEMMPass.allCases.map {
          $0.measure(shape, peak: peak.flopsPerSecond, repetitions: repetitions, executor)
        }
      }
  }

  private var scratch: Int {
    shapes.reduce(Roofline.streamBytes) { largest, shape in
      max(largest, 16 * (shape.m * shape.k + shape.n * shape.k + shape.m * shape.n))
    } + (256 << 20)
  }
}
