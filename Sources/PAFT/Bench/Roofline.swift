// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTOps

/// What the machine can do right now, sample by sample.
///
/// Products are held against multiply-adds on registers (`ProbeKernels`), all workers at once.
/// Memory is held against the faster of two walks over arrays well beyond the last-level cache:
/// y += x, which reads two numbers and writes one, and reading alone. A copy past the caches is
/// measured as well: what a kernel that writes fresh memory can hope for.
final class Roofline {
  enum Walk: String, CaseIterable {
    case update, read, copy

    var bytesPerFloat: Double { self == .update ? 12 : self == .read ? 4 : 8 }
    var isLimit: Bool { self != .copy }
  }

  /// Floats of each of two arrays.
  static let count = 32 << 20
  static var bytes: Int { 2 * 4 * count + (1 << 20) }
  /// A sample takes about two milliseconds on a core of 3 GHz: long against the clock's grain,
  /// short against a turbo's whims.
  private static let rounds = 600_000

  private let executor: Executor
  private let x: UnsafeMutablePointer<Float>
  private let y: UnsafeMutablePointer<Float>
  private let operands: UnsafeMutablePointer<UInt8>
  private let stride = 4096

  /// Keeps its arrays in the executor's scratch for as long as that is not released.
  init(_ executor: Executor) {
    self.executor = executor
    x = executor.scratch.allocate(Float.self, count: Self.count)
    y = executor.scratch.allocate(Float.self, count: Self.count)
    operands = executor.scratch.allocate(UInt8.self, count: executor.workers * stride)
    // Zero bytes are the number zero in every type; scratch may hold anything.
    operands.update(repeating: 0, count: executor.workers * stride)
    Elementwise.zero(x, count: Self.count, on: executor)
    Elementwise.zero(y, count: Self.count, on: executor)
  }

  private var rounds: Int { executor.kernels.name == "reference" ? 5000 : Self.rounds }

  /// Operations of one sample, which takes `seconds`.
  func peak(_ type: BenchType) -> (flops: Double, seconds: Double) {
    let lanes = executor.kernels.gemm.tile_f32.lanes
    let probe = executor.kernels.probe
    let rounds = rounds
    let watch = Stopwatch()
    executor.team.run { worker in
      let sums = UnsafeMutableRawPointer(operands + worker * stride)
      let (x, y) = (UnsafeRawPointer(sums + 2048), UnsafeRawPointer(sums + 3072))
      switch type {
      case .f32:
        probe.peak_f32(
          sums.assumingMemoryBound(to: Float.self), x.assumingMemoryBound(to: Float.self),
          y.assumingMemoryBound(to: Float.self), rounds)
      case .bf16:
        probe.peak_bf16(
          sums.assumingMemoryBound(to: Float.self), x.assumingMemoryBound(to: UInt16.self),
          y.assumingMemoryBound(to: UInt16.self), rounds)
      case .int8:
        probe.peak_u8s8(
          sums.assumingMemoryBound(to: Int32.self), x.assumingMemoryBound(to: UInt8.self),
          y.assumingMemoryBound(to: Int8.self), rounds)
      }
    }
    let products = type == .f32 ? 1 : type == .bf16 ? 2 : 4
    let each = Double(2 * probe.sums * lanes * products)
    return (each * Double(rounds * executor.workers), watch.seconds)
  }

  /// Bytes of one walk, which takes `seconds`.
  func walk(_ walk: Walk) -> (bytes: Double, seconds: Double) {
    let watch = Stopwatch()
    executor.parallel(Self.count, grain: 4096) { range in
      let (x, y, n) = (x + range.lowerBound, y + range.lowerBound, range.count)
      switch walk {
      case .update: executor.kernels.vectors.axpy_f32(y, x, 1, n)
      case .read: _ = executor.kernels.probe.read_f32(x, n)
      case .copy: executor.kernels.vectors.copy_f32(y, x, n, 1)
      }
    }
    return (walk.bytesPerFloat * Double(Self.count), watch.seconds)
  }
}
