// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import PAFTMachine
import PAFTOps

/// What touches every number once, on TxD of them: bytes that are read and written, without the line
/// that is read before it is written. Arrays that fit the last-level cache are faster than memory.
/// A row's limit is the walk that reads and writes as it does: one core that only reads reaches three
/// quarters of what it moves when it writes as well.
enum ElementwiseBench {
  static func job(_ shape: BenchShape) -> BenchJob {
    BenchJob(kind: .elementwise, bytes: 24 * shape[0] * shape[1] + (128 << 20)) { session in
      let executor = session.executor
      executor.withScratch { scratch in
        rows(session, shape, in: scratch)
      }
      executor.withScratch { scratch in
        flat(session, shape, in: scratch)
      }
    }
  }

  private static func measure(
    _ session: BenchSession, _ kernel: String, _ shape: BenchShape, _ pass: String,
    bytesEach: Double, _ walk: Roofline.Walk, dtype: String = "f32", _ body: () -> Void
  ) {
    session.measure(
      kernel, shape.description, pass, dtype: dtype,
      .values(shape[0] * shape[1], bytesEach: bytesEach), walk: walk, body)
  }

  // MARK: - Rows of T tokens

  private static func rows(_ session: BenchSession, _ shape: BenchShape, in scratch: Arena) {
    let executor = session.executor
    let (tokens, width) = (shape[0], shape[1])
    func matrix(_ name: String) -> Matrix {
      Matrix.random(tokens, width, name, in: scratch, on: executor)
    }
    let (x, y, gate, up) = (matrix("x"), matrix("y"), matrix("gate"), matrix("up"))
    let weight = scratch.allocate(Float.self, count: width)
    weight.update(repeating: 1, count: width)
    let inverse = scratch.allocate(Float.self, count: tokens)

    measure(session, "rmsnorm", shape, "forward", bytesEach: Work.Each.rmsNorm, .copy) {
      RMSNorm.forward(
        x, weight: weight, dim: width, eps: 1e-6, into: y, inverse: inverse, on: executor)
    }
    // Reads dy, x and dx, writes dx: a residual's gradient is added to.
    measure(
      session, "rmsnorm", shape, "backward",
      bytesEach: Work.Each.rmsNormBackward(assign: false), .update
    ) {
      RMSNorm.backward(
        y, x: x, weight: weight, dim: width, inverse: inverse, into: gate, dweight: nil,
        assign: false, on: executor)
    }
    let head = [128, 64, 2].first { width % $0 == 0 }
    if let head {
      let table = RotaryTable(in: scratch, positions: tokens, headSize: head)
      let positions = scratch.allocate(Int32.self, count: tokens)
      for row in 0..<tokens {
        positions[row] = Int32(row)
        for i in 0..<head / 2 {
          table.cos.row(row)[i] = 0.6
          table.sin.row(row)[i] = 0.8
        }
      }
      measure(session, "rope", shape, "forward", bytesEach: Work.Each.rope, .update) {
        Rotary.apply(
          x, positions: positions, table: table, headSize: head, sign: 1, on: executor)
      }
    }
    measure(session, "swiglu", shape, "forward", bytesEach: Work.Each.swiglu, .update) {
      SwiGLU.forward(gate: gate, up: up, into: y, on: executor)
    }
    // In place, as the decoder does; y is the gradient from above.
    Elementwise.zero(y.base, count: tokens * width, on: executor)
    measure(session, "swiglu", shape, "backward", bytesEach: Work.Each.swigluBackward, .update) {
      SwiGLU.backward(y, gate: gate, up: up, dgate: gate, dup: up, on: executor)
    }
    let ids = scratch.allocate(Int32.self, count: tokens)
    let draw = CounterRandom(seed: 1).stream("ids")
    for row in 0..<tokens { ids[row] = Int32(draw.integer(UInt64(row), below: tokens)) }
    measure(session, "embedding", shape, "forward", bytesEach: Work.Each.copy, .copy) {
      Embedding.forward(ids: ids, table: x, into: y, on: executor)
    }
    measure(session, "embedding", shape, "backward", bytesEach: Work.Each.add, .update) {
      Embedding.backward(ids: ids, dx: x, into: gate, on: executor)
    }
  }

  // MARK: - Flat buffers of T * D parameters

  private static func flat(_ session: BenchSession, _ shape: BenchShape, in scratch: Arena) {
    let executor = session.executor
    let count = shape[0] * shape[1]
    func floats(_ name: String) -> UnsafeMutablePointer<Float> {
      Matrix.random(shape[0], shape[1], name, scale: 0.02, in: scratch, on: executor).base
    }
    let (p, m, v, g) = (floats("p"), floats("m"), floats("v"), floats("g"))
    // Second moments are squares.
    Elementwise.zero(v, count: count, on: executor)
    let scalars = AdamWScalars(
      learningRate: 1e-5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01,
      correction1: 0.5, correction2: 0.5, gradientScale: 1)
    measure(session, "adamw", shape, "step", bytesEach: Work.Each.adamW, .update) {
      AdamWStep.f32(
        weights: p, first: m, second: v, gradients: g, count: count, scalars, on: executor)
    }
    executor.withScratch { scratch in
      let moments = EightBitMoments(in: scratch, count: count)
      // Reads and writes p and two bytes of moments, reads g.
      measure(session, "adamw8", shape, "step", bytesEach: Work.Each.adamW8, .update) {
        AdamWStep.eightBit(weights: p, moments, gradients: g, count: count, scalars, on: executor)
      }
    }
    measure(session, "norm", shape, "sum of squares", bytesEach: Work.Each.read, .read) {
      _ = Elementwise.sumSquares(g, count: count, on: executor)
    }
    let kernels = executor.kernels
    func ranges(_ body: (Int, Int) -> Void) {
      executor.parallel(count, grain: 1 << 12) { body($0.lowerBound, $0.count) }
    }
    measure(session, "soft-threshold", shape, "step", bytesEach: Work.Each.softThreshold, .update) {
      ranges { at, n in kernels.optimizer.softThreshold_f32(p + at, m + at, 1e-6, n) }
    }
    let half = UnsafeMutableRawPointer(v).assumingMemoryBound(to: UInt16.self)
    // Past the caches where they cannot keep what is read and written for the next sample.
    let streams = 6 * count >= 32 << 20 ? 1 : 0
    measure(session, "convert", shape, "f32 to bf16", bytesEach: 6, .update, dtype: "bf16") {
      ranges { at, n in kernels.vectors.toBF16(half + at, g + at, n, streams) }
    }
    measure(session, "convert", shape, "bf16 to f32", bytesEach: 6, .copy, dtype: "bf16") {
      ranges { at, n in kernels.vectors.fromBF16(m + at, half + at, n, streams) }
    }
  }
}
