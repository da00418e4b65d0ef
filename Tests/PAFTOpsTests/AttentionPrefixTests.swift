// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import PAFTOps
import Testing

/// A prompt computed once with several continuations against whole sequences, each with its own
/// copy of the prompt, in Double.
@Suite("Attention of sequences that continue others")
struct AttentionPrefixTests {
  struct Variant: Sendable, CustomTestStringConvertible {
    let heads: Int
    let keyHeads: Int
    let size: Int
    let window: Int?
    /// Length of each sequence and which one it continues.
    let sequences: [(length: Int, prefix: Int)]
    let compute: ComputeType
    var testDescription: String {
      "\(heads)/\(keyHeads) heads of \(size), window \(window ?? 0), \(sequences), \(compute)"
    }
    var lengths: [Int] { sequences.map(\.length) }

    /// Rows that sequence s sees, its own last: those it continues, from the first on.
    func rows(of s: Int) -> [Int] {
      let start = lengths[..<s].reduce(0, +)
      let own = Array(start..<start + lengths[s])
      return sequences[s].prefix < 0 ? own : rows(of: sequences[s].prefix) + own
    }
  }

  static let variants: [Variant] = ComputeType.allCases.flatMap { compute in
    [
      (2, 1, 16, nil, [(50, -1), (20, 0), (33, 0)]),
      (7, 1, 8, nil, [(9, -1), (200, -1), (40, 1), (1, 1), (7, -1), (193, 0)]),
      (4, 2, 40, 30, [(197, -1), (50, 0), (18, 0)]),
      // A dialogue: each turn continues the last, and two end it.
      (3, 1, 17, nil, [(20, -1), (30, 0), (5, 1), (64, 1), (12, 0)]),
      (2, 2, 64, nil, [(0, -1), (10, 0), (6, 0), (400, -1), (100, 3)]),
    ].map {
      Variant(
        heads: $0.0, keyHeads: $0.1, size: $0.2, window: $0.3,
        sequences: $0.4.map { (length: $0.0, prefix: $0.1) }, compute: compute)
    }
  }

  @Test("are those of whole sequences, forward and backward, on every table", arguments: variants)
  func prefixes(_ variant: Variant) throws {
    let c = AttentionCase(
      heads: variant.heads, keyHeads: variant.keyHeads, size: variant.size,
      window: variant.window, lengths: variant.lengths)
    // Row i of the expanded batch is row rows[i] of ours, `isOwn` in the sequence it belongs to.
    let expanded = variant.lengths.indices.map { variant.rows(of: $0) }
    let rows = expanded.flatMap { $0 }
    let isOwn = expanded.indices.flatMap { s in
      expanded[s].indices.map { $0 >= expanded[s].count - variant.lengths[s] }
    }
    func copies(_ grid: Grid) -> Grid {
      Grid(rows.count, grid.columns) { grid[rows[$0], $1] }
    }
    let oracle = AttentionOracle(c.shape, lengths: expanded.map(\.count), type: variant.compute)
    let (q, k, v) = (copies(c.q), copies(c.k), copies(c.v))
    let forward = oracle.forward(q: q, k: k, v: v)
    // A copy of the prompt in front of an answer has no loss of its own.
    let dOutput = Grid(rows.count, c.dOutput.columns) { isOwn[$0] ? c.dOutput[rows[$0], $1] : 0 }
    let whole = Grid(rows.count, c.q.columns) {
      Float(forward.output[$0 * c.q.columns + $1].value)
    }
    let sums = Grid(rows.count, variant.heads) { Float(forward.lse[$0 * variant.heads + $1].value) }
    let backward = oracle.backward(
      dOutput: dOutput, output: whole, lse: sums.values, q: q, k: k, v: v)

    /// What is expected of our rows: own rows of the expanded batch, or all copies summed.
    @Sendable func gather(_ values: [Estimate], _ columns: Int, summed: Bool) -> [Estimate] {
      var found = [Estimate](repeating: Estimate(value: 0, error: 0), count: c.tokens * columns)
      for (i, row) in rows.enumerated() where isOwn[i] || summed {
        for column in 0..<columns {
          let (at, from) = (row * columns + column, i * columns + column)
          found[at].value += values[from].value
          // Copies are summed in one go: a rounding of each at the sum's size.
          found[at].error += values[from].error + 4 * roundoff * abs(values[from].value)
        }
      }
      return found
    }
    let own = isOwn.indices.filter { isOwn[$0] }
    let output = Grid(c.tokens, c.q.columns) { whole[own[$0], $1] }
    let lse = Grid(c.tokens, variant.heads) { sums[own[$0], $1] }
    let prefixes = variant.sequences.map(\.prefix)
    for table in KernelTable.available {
      try withExecutor(Mode(isa: table.name, compute: variant.compute), threads: 3) { executor in
        let found = Grid(unset: c.tokens, c.q.columns, padding: 4)
        let foundSums = Grid(unset: c.tokens, variant.heads)
        let dq = Grid(unset: c.tokens, c.q.columns, padding: 3)
        let (dk, dv) = (
          Grid(unset: c.tokens, c.k.columns, padding: 2), Grid(unset: c.tokens, c.k.columns)
        )
        prefixes.withUnsafeBufferPointer { prefixes in
          c.withSequences {
            let sequences = Sequences(
              starts: $0.starts, count: $0.count, prefixes: prefixes.baseAddress!)
            Attention.forward(
              q: c.q.matrix, k: c.k.matrix, v: c.v.matrix, sequences: sequences, shape: c.shape,
              into: found.matrix, lse: foundSums.pointer, on: executor)
            Attention.backward(
              dOutput: c.dOutput.matrix, output: output.matrix, q: c.q.matrix, k: c.k.matrix,
              v: c.v.matrix, lse: lse.pointer, sequences: sequences, shape: c.shape,
              dq: dq.matrix, dk: dk.matrix, dv: dv.matrix, on: executor)
          }
        }
        let (wide, narrow) = (c.q.columns, c.k.columns)
        expectClose(
          found, gather(forward.output, wide, summed: false), "\(table.name) output")
        expectClose(
          foundSums, gather(forward.lse, variant.heads, summed: false), "\(table.name) lse")
        expectClose(dq, gather(backward.dq, wide, summed: false), "\(table.name) dq")
        expectClose(dk, gather(backward.dk, narrow, summed: true), "\(table.name) dk")
        expectClose(dv, gather(backward.dv, narrow, summed: true), "\(table.name) dv")
      }
    }
  }
}
