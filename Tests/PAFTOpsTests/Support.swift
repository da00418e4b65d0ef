// SPDX-License-Identifier: Apache-2.0

import EmulatedAMX
import PAFTBase
import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

/// Half the distance from 1 to the next Float, and to the next BF16 (8 significant bits): one
/// rounding, relatively.
let roundoff = 0x1p-24
let roundoffBF16 = 0x1p-8

/// What a GEMM operand becomes when it is packed, written out apart from the kernels.
func operand(_ x: Float, _ type: ComputeType) -> Double {
  guard type == .bf16 else { return Double(x) }
  let bits = x.bitPattern
  return Double(Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000))
}

/// Relative error of storing a computed operand once more (P and dS in attention, dz in the head).
func storing(_ type: ComputeType) -> Double { type == .bf16 ? 1.01 * roundoffBF16 : 0 }

/// A kernel table and a compute type: what an executor can be.
struct Mode: Sendable, CustomTestStringConvertible {
  let isa: String
  let compute: ComputeType
  var testDescription: String { "\(isa) \(compute.rawValue)" }

  var kernels: KernelTable {
    isa == "emulated amx"
      ? Self.emulatedAMX! : KernelTable.available.first { $0.name == isa }!
  }

  /// Every table this CPU can run, and AMX by emulation of its instructions.
  static let all =
    KernelTable.available.flatMap { table in
      ComputeType.allCases.map { Mode(isa: table.name, compute: $0) }
    } + emulated
  static let emulated =
    emulatedAMX == nil ? [] : [Mode(isa: "emulated amx", compute: .bf16)]

  static let emulatedAMX: KernelTable? = {
    guard var table = KernelTable.available.first(where: { $0.name == "avx512bf16" }) else {
      return nil
    }
    KernelTable.amx(&table)
    return table
  }()
}

/// Runs `body` on a team of `threads`, more than this machine has if asked.
func withExecutor<T: Sendable>(
  _ mode: Mode, threads: Int = 2, _ body: @escaping @Sendable (Executor) throws -> T
) throws -> T {
  let cpus = try Machine.detect().place(threads: nil).cpus
  let place = Place(cpus: (0..<threads).map { cpus[$0 % cpus.count] }, node: nil)
  return try place.run(named: "test") { team in
    let scratch = try Arena(capacity: 1 << 30, node: nil, name: "scratch")
    return try body(
      Executor(team: team, kernels: mode.kernels, compute: mode.compute, scratch: scratch))
  }
}

/// Two results of one computation must be equal in every bit on one worker and on several.
func expectSameBits(
  _ mode: Mode, on teams: [Int] = [2, 3], sourceLocation: SourceLocation = #_sourceLocation,
  _ body: @escaping @Sendable (Executor) -> [Float]
) throws {
  func bits(_ threads: Int) throws -> [UInt32] {
    try withExecutor(mode, threads: threads) { body($0).map(\.bitPattern) }
  }
  let alone = try bits(1)
  #expect(!alone.isEmpty, sourceLocation: sourceLocation)
  for threads in teams {
    #expect(try bits(threads) == alone, "\(threads) workers", sourceLocation: sourceLocation)
  }
}

/// Rows in wider memory: `padding` values of NaN after each row, which nothing may read into a
/// result or write. Lives until the test's `Grid` is gone.
final class Grid: @unchecked Sendable {
  let rows: Int
  let columns: Int
  let stride: Int
  private let base: UnsafeMutablePointer<Float>
  private let count: Int
  private static let poison = Float(bitPattern: 0x7FC0_BEEF)

  init(_ rows: Int, _ columns: Int, padding: Int = 0, _ value: (Int, Int) -> Float) {
    self.rows = rows
    self.columns = columns
    stride = columns + padding
    count = max(1, rows * stride)
    base = .allocate(capacity: count)
    base.initialize(repeating: Self.poison, count: count)
    for row in 0..<rows {
      for column in 0..<columns { base[row * stride + column] = value(row, column) }
    }
  }

  /// Uniform in -size..<size.
  convenience init(
    _ rows: Int, _ columns: Int, padding: Int = 0, random name: String, size: Double = 1
  ) {
    let random = CounterRandom(seed: 20_260_203).stream(name)
    self.init(rows, columns, padding: padding) { row, column in
      Float((2 * random.uniform(UInt64(row * columns + column)) - 1) * size)
    }
  }

  /// Nothing meaningful: results that must be overwritten, not added to.
  convenience init(unset rows: Int, _ columns: Int, padding: Int = 0) {
    self.init(rows, columns, padding: padding) { _, _ in Self.poison }
  }

  deinit { base.deallocate() }

  var matrix: Matrix { Matrix(base, rows: rows, columns: columns, stride: stride) }
  var pointer: UnsafeMutablePointer<Float> { base }
  var copy: Grid { Grid(rows, columns, padding: stride - columns) { self[$0, $1] } }

  subscript(_ row: Int, _ column: Int) -> Float {
    get { base[row * stride + column] }
    set { base[row * stride + column] = newValue }
  }

  /// All values in row order.
  var values: [Float] {
    (0..<rows).flatMap { row in (0..<columns).map { self[row, $0] } }
  }

  /// The values as GEMM operands.
  func operands(_ type: ComputeType) -> [Double] { values.map { operand($0, type) } }

  /// Whether the padding is as it was made.
  var isIntact: Bool {
    (0..<rows).allSatisfy { row in
      (columns..<stride).allSatisfy {
        base[row * stride + $0].bitPattern == Self.poison.bitPattern
      }
    }
  }
}

/// A value and how far a correct computation may be from it.
struct Estimate: Sendable {
  var value: Double
  var error: Double
}

/// One issue per call at most, with the first place that is off; padding must be untouched.
func expectClose(
  _ found: Grid, _ expected: [Estimate], _ what: @autoclosure () -> String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(found.isIntact, "\(what()): padding was written", sourceLocation: sourceLocation)
  expectClose(found.values, expected, what(), sourceLocation: sourceLocation)
}

func expectClose(
  _ found: [Float], _ expected: [Estimate], _ what: @autoclosure () -> String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  guard found.count == expected.count else {
    Issue.record(
      "\(what()): \(found.count) values for \(expected.count)", sourceLocation: sourceLocation)
    return
  }
  for i in found.indices {
    let e = expected[i]
    if !(abs(Double(found[i]) - e.value) <= e.error) {
      Issue.record(
        "\(what()): [\(i)] is \(found[i]), expected \(e.value) within \(e.error)",
        sourceLocation: sourceLocation)
      return
    }
  }
}

/// sum(products) of GEMM operands as Float computes it in any order, times alpha, plus `start`.
struct ProductSum {
  var sum = 0.0
  var size = 0.0
  var count = 0

  mutating func add(_ a: Double, _ b: Double) {
    sum += a * b
    size += abs(a * b)
    count += 1
  }

  func estimate(alpha: Double = 1, plus start: Double = 0) -> Estimate {
    let value = alpha * sum + start
    // One rounding per product and addition (Higham 2002, 3.1), and two more to scale and to add
    // to C once per slice of k.
    let error = Double(count + 8) * roundoff * (abs(alpha) * size + abs(start)) + 1e-37
    return Estimate(value: value, error: error)
  }
}
