// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTOps

/// `paft bench gemm`: C[M,N] = A[M,K] B[K,N] with B packed beforehand, as weights are, and A packed
/// inside the measured time, as activations are. The peak is what the same micro-tile reaches on
/// operands that stay in the first cache, on all workers at once.
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

    /// Bytes that must move at least once: both operands, and C in Float.
    func bytes(_ type: ComputeType) -> Double {
      Double(type.size) * (Double(m) * Double(k) + Double(n) * Double(k))
        + 4 * Double(m) * Double(n)
    }
  }

  /// Those of a 0.5 billion model's layers with 1,024 tokens, and a cube.
  package static let usualShapes = [
    "1024x1024x1024", "1024x896x896", "1024x4864x896", "1024x896x4864",
  ].compactMap(Shape.init)

  package var shapes = BenchVerb.usualShapes
  package var repetitions = 5
  package var compute = ComputeOptions()

  package init() {}

  package struct Row: Sendable {
    package let dtype: String
    package let shape: String
    package let threads: Int
    package let medianSeconds: Double
    package let gigaflops: Double
    package let gigabytes: Double
    package let peakFraction: Double
    package let isa: String
    package let commit: String
    package let machine: String

    package var json: String {
      let value: JSON = [
        "kernel": "gemm", "dtype": .string(dtype), "shape": .string(shape), "pass": "forward",
        "threads": JSON(threads), "median_seconds": JSON(medianSeconds),
        "gflops": JSON(gigaflops), "gbytes_per_second": JSON(gigabytes),
        "peak_fraction": JSON(peakFraction), "isa": .string(isa), "commit": .string(commit),
        "machine": .string(machine),
      ]
      return value.serialized()
    }
  }

  package static func table(_ rows: [Row]) -> String {
    var table = TextTable([
      "kernel", "dtype", "shape", "threads", "median ms", "GFLOP/s", "GB/s", "of peak", "isa",
    ])
    for row in rows {
      table.add([
        "gemm", row.dtype, row.shape, "\(row.threads)", Numbers.fixed(row.medianSeconds * 1e3, 3),
        Numbers.fixed(row.gigaflops, 1), Numbers.fixed(row.gigabytes, 2),
        Numbers.percent(row.peakFraction), row.isa,
      ])
    }
    return table.text
  }

  package func run() throws(PAFTError) -> [Row] {
    try PAFTError.wrapping {
      guard repetitions >= 1, repetitions <= 1000 else {
        throw Fault(.usage, "--repetitions \(repetitions): expected 1 to 1000")
      }
      let machine = try Machine.detect().topology.model
      let commit = SourceCommit.current ?? "unknown"
      let scratch = shapes.reduce(0) { largest, shape in
        max(largest, 8 * (shape.m * shape.k + shape.n * shape.k + 2 * shape.m * shape.n))
      }
      return try Workbench.run(compute, named: "bench", scratch: scratch + (256 << 20)) { executor in
        let peak = Peak.measure(executor)
        return shapes.map { shape in
          let seconds = median(shape, executor)
          return Row(
            dtype: executor.compute.rawValue, shape: shape.description, threads: executor.workers,
            medianSeconds: seconds, gigaflops: shape.flops / seconds * 1e-9,
            gigabytes: shape.bytes(executor.compute) / seconds * 1e-9,
            peakFraction: shape.flops / seconds / peak, isa: executor.kernels.name,
            commit: commit, machine: machine)
        }
      }
    }
  }

  private func median(_ shape: Shape, _ executor: Executor) -> Double {
    executor.withScratch { scratch in
      let a = Matrix(in: scratch, rows: shape.m, columns: shape.k)
      let w = Matrix(in: scratch, rows: shape.n, columns: shape.k)
      let c = Matrix(in: scratch, rows: shape.m, columns: shape.n)
      fill(a, CounterRandom(seed: 1), executor)
      fill(w, CounterRandom(seed: 2), executor)
      let weight = PackedWeight(
        in: scratch, outputs: shape.n, inputs: shape.k, backward: false, type: executor.compute,
        tile: executor.kernels.tile)
      weight.pack(from: w, on: executor)
      func once() {
        executor.withScratch { inner in
          Linear.forward(
            Linear.pack(a, in: inner, on: executor), weight, into: c, on: executor)
        }
      }
      // Long enough for the clock: small products run many times per sample.
      once()
      let first = Stopwatch()
      once()
      let loops = max(1, min(10_000, Int(0.02 / max(first.seconds, 1e-7))))
      var samples: [Double] = []
      for _ in 0..<repetitions {
        let watch = Stopwatch()
        for _ in 0..<loops { once() }
        samples.append(watch.seconds / Double(loops))
      }
      samples.sort()
      return samples[samples.count / 2]
    }
  }

  private func fill(_ matrix: Matrix, _ random: CounterRandom, _ executor: Executor) {
    executor.parallel(matrix.rows) { range in
      for row in range {
        let values = matrix.row(row)
        for i in 0..<matrix.columns {
          values[i] = Float(random.uniform(UInt64(row * matrix.columns + i)) - 0.5)
        }
      }
    }
  }
}

/// What the micro-tile can do when nothing has to be fetched from beyond the first cache.
private enum Peak {
  /// A B panel of this size lies in any first-level data cache, beside the much smaller A panel.
  private static let panelBytes = 16 << 10

  /// Operations per second of all workers together, the best of several trials.
  static func measure(_ executor: Executor) -> Double {
    let tile = executor.kernels.tile
    let type = executor.compute
    let depth = max(8, panelBytes / (tile.columns * type.size))
    let calls = max(1, 5_000_000 / (tile.rows * tile.columns * depth / 64))
    return executor.withScratch { scratch in
      let stride = 4 * (tile.rows + tile.columns) * depth + 4 * tile.rows * tile.columns + 256
      let room = scratch.allocate(UInt8.self, count: executor.workers * stride)
      // Zero bytes are the number zero in both types; scratch may hold anything.
      room.update(repeating: 0, count: executor.workers * stride)
      var best = 0.0
      for _ in 0..<8 {
        let watch = Stopwatch()
        executor.team.run { worker in
          let base = UnsafeMutableRawPointer(room + worker * stride)
          let b = base
          let a = base + (4 * tile.columns * depth)
          let c = (a + 4 * tile.rows * depth).assumingMemoryBound(to: Float.self)
          for _ in 0..<calls {
            if type == .f32 {
              executor.kernels.gemmTile_f32(
                a.assumingMemoryBound(to: Float.self), b.assumingMemoryBound(to: Float.self), c,
                depth, tile.columns, tile.rows, tile.columns, 1, 0)
            } else {
              executor.kernels.gemmTile_bf16(
                a.assumingMemoryBound(to: UInt16.self), b.assumingMemoryBound(to: UInt16.self), c,
                depth, tile.columns, tile.rows, tile.columns, 1, 0)
            }
          }
        }
        let work = 2.0 * Double(tile.rows * tile.columns * depth) * Double(calls * executor.workers)
        best = max(best, work / watch.seconds)
      }
      return best
    }
  }
}
