// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTOps

/// What the machine can do right now: clocks move and neighbours take their share, so no number of a
/// data sheet is a measure, and these are taken in the run whose rows they judge.
enum Roofline {
  /// A B panel of this size lies in the second-level cache, which feeds the tile twice as fast as it
  /// reads; one that fits the first is so short that the store of C shows (6 % at k = 128).
  private static let panelBytes = 128 << 10
  /// Two arrays, together well beyond a last-level cache.
  static let streamBytes = 256 << 20

  /// Multiply-adds per second of all workers together: the micro-tile on operands that never leave
  /// the core's caches. It loads 10 registers per 24 products, so the product units are what binds.
  static func peak(_ executor: Executor) -> Measurement {
    let tile = executor.tile
    let type = executor.compute
    let depth = max(8, panelBytes / (tile.columns * type.size))
    let flops = 2 * Double(tile.rows * tile.columns * depth)
    return executor.withScratch { scratch in
      let panels = 4 * (tile.rows + tile.columns) * depth + 4 * tile.rows * tile.columns
      // Workers keep off each other's pages.
      let stride = (panels + 8191) & ~4095
      let room = scratch.allocate(UInt8.self, count: executor.workers * stride)
      // Zero bytes are the number zero in both types; scratch may hold anything.
      room.update(repeating: 0, count: executor.workers * stride)
      func run(_ calls: Int) {
        executor.team.run { worker in
          let b = UnsafeMutableRawPointer(room + worker * stride)
          let a = b + 4 * tile.columns * depth
          let c = (a + 4 * tile.rows * depth).assumingMemoryBound(to: Float.self)
          for _ in 0..<calls {
            if type == .f32 {
              executor.kernels.gemm.multiply_f32(
                a.assumingMemoryBound(to: Float.self), b.assumingMemoryBound(to: Float.self), c,
                depth, tile.columns, tile.rows, tile.columns, 1, 0)
            } else {
              executor.kernels.gemm.multiply_bf16(
                a.assumingMemoryBound(to: UInt16.self), b.assumingMemoryBound(to: UInt16.self), c,
                depth, tile.columns, tile.rows, tile.columns, 1, 0)
            }
          }
        }
      }
      let calls = Timing.loops { run(16) } * 16
      let seconds = Timing.best(12) { run(calls) } / Double(calls)
      return Measurement(
        kernel: "peak", shape: "\(tile.rows)x\(tile.columns)x\(depth)", pass: "forward",
        seconds: seconds, flops: flops * Double(executor.workers), bytes: 0, peak: nil)
    }
  }

  /// y += x over memory: two loads and a store of each value.
  static func stream(_ executor: Executor) -> Measurement {
    let count = streamBytes / 2 / MemoryLayout<Float>.stride
    return executor.withScratch { scratch in
      let x = scratch.allocate(Float.self, count: count)
      let y = scratch.allocate(Float.self, count: count)
      Elementwise.zero(x, count: count, on: executor)
      Elementwise.zero(y, count: count, on: executor)
      let seconds = Timing.best(7) {
        executor.parallel(count, grain: 4096) { range in
          executor.kernels.vectors.axpy_f32(y + range.lowerBound, x + range.lowerBound, 1, range.count)
        }
      }
      return Measurement(
        kernel: "stream", shape: "\(count)", pass: "forward", seconds: seconds,
        flops: 2 * Double(count), bytes: 12 * Double(count), peak: nil)
    }
  }
}

/// Samples of something that runs for at least 20 ms each, so that the clock does not show.
enum Timing {
  static func loops(_ body: () -> Void) -> Int {
    body()
    let watch = Stopwatch()
    body()
    return max(1, min(1_000_000, Int(0.02 / max(watch.seconds, 1e-8))))
  }

  /// A limit is what the machine reached once.
  static func best(_ samples: Int, _ body: () -> Void) -> Double {
    var best = Double.infinity
    for _ in 0..<samples {
      let watch = Stopwatch()
      body()
      best = min(best, watch.seconds)
    }
    return best
  }

  /// A result is what it usually takes. The first runs are not counted: they touch fresh pages.
  static func median(_ samples: Int, _ body: () -> Void) -> Double {
    let loops = loops(body)
    var seconds: [Double] = []
    for _ in 0..<samples {
      let watch = Stopwatch()
      for _ in 0..<loops { body() }
      seconds.append(watch.seconds / Double(loops))
    }
    seconds.sort()
    return seconds[seconds.count / 2]
  }
}
