// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

/// The three products of a linear layer y[M,N] = x[M,K] W[N,K]ᵀ as training runs them: weights packed
/// beforehand, activations and gradients packed inside the measured time.
enum GEMMPass: String, CaseIterable {
  case forward
  /// dx = dy W.
  case dgrad
  /// dW += dyᵀ x; both operands are new in every step, so both are packed.
  case wgrad

  func measure(
    _ shape: BenchVerb.Shape, peak: Double, repetitions: Int, _ executor: Executor
  ) -> Measurement {
    executor.withScratch { scratch in
      let x = Self.random(shape.m, shape.k, "x", scratch, executor)
      let dy = Self.random(shape.m, shape.n, "dy", scratch, executor)
      let w = Self.random(shape.n, shape.k, "w", scratch, executor)
      let weight = executor.packedWeight(
        in: scratch, outputs: shape.n, inputs: shape.k, backward: self == .dgrad)
      weight.pack(from: w, on: executor)
      let y = Matrix(in: scratch, rows: shape.m, columns: self == .dgrad ? shape.k : shape.n)
      let seconds = Timing.median(repetitions) {
        executor.withScratch { inner in
          switch self {
          case .forward:
            Linear.forward(Linear.pack(x, in: inner, on: executor), weight, into: y, on: executor)
          case .dgrad:
            Linear.backwardInput(
              Linear.pack(dy, in: inner, on: executor), weight, into: y, accumulate: false,
              on: executor)
          case .wgrad:
            // A factor that keeps the sum of thousands of runs finite.
            Linear.backwardWeight(dy, x, into: w, alpha: 0x1p-20, on: executor)
          }
        }
      }
      return Measurement(
        kernel: "gemm", shape: shape.description, pass: rawValue, seconds: seconds,
        flops: shape.flops, bytes: bytes(shape, executor.compute), peak: peak)
    }
  }

  /// Bytes that must move at least once: activations and gradients are Floats, weights are packed;
  /// a weight's gradient is read and written.
  private func bytes(_ shape: BenchVerb.Shape, _ type: ComputeType) -> Double {
    let (m, n, k) = (Double(shape.m), Double(shape.n), Double(shape.k))
    return 4 * m * (k + n) + (self == .wgrad ? 8 : Double(type.size)) * n * k
  }

  private static func random(
    _ rows: Int, _ columns: Int, _ name: String, _ arena: Arena, _ executor: Executor
  ) -> Matrix {
    let matrix = Matrix(in: arena, rows: rows, columns: columns)
    let random = CounterRandom(seed: 1).stream(name)
    executor.parallel(rows) { range in
      for row in range {
        let values = matrix.row(row)
        for i in 0..<columns {
          values[i] = Float(random.uniform(UInt64(row * columns + i)) - 0.5)
        }
      }
    }
    return matrix
  }
}
