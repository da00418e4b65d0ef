// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

/// What one layer's forward pass leaves for its backward pass. T rows each, but after the attention only
/// those that the block finishes.
///
/// Where all layers' activations wait at once, what costs nearly nothing is not among them: normed
/// inputs and the MLP's product are computed again, from what they were computed of. With operands in
/// bf16 nearly all of it waits rounded to it (`Rounded`, `RoundedGates`), and what is computed forward
/// goes on as Floats in memory that is given back after each layer.
struct LayerActivations {
  /// The arena before all of this, behind what waits, and before what only attention needs.
  let start: Int
  let kept: Int
  let attentionStart: Int
  /// The rows that leave the block, where not all do: of the last one only some are wanted.
  let finished: RowSelection?
  var x: Matrix  // input, [T, hidden]
  var inputInverse: UnsafeMutablePointer<Float>
  var normed: Matrix?  // [T, hidden]; x itself where nothing is normed; nil: computed again
  var q: Matrix  // after norm and rotation
  var k: Matrix
  var v: Matrix
  var qkv: Matrix?  // q, k and v side by side where they are one product
  var rawQ: Matrix?  // before the head norm
  var rawK: Matrix?
  var queryInverse: UnsafeMutablePointer<Float>?
  var keyInverse: UnsafeMutablePointer<Float>?
  var attention: Matrix  // [T, queryWidth]
  var lse: UnsafeMutablePointer<Float>  // [T, heads]
  var attentionOutput: BranchOutput?
  var middle: Matrix  // after the attention residual, [T, hidden]
  var middleInverse: UnsafeMutablePointer<Float>
  var middleNormed: Matrix?  // as normed
  var gates: Gates?  // nil: they are kept rounded, or no backward pass follows
  var rounded: RoundedGates?
  /// Where it is there, x, q, k, v, attention and middle hold nothing after the forward pass.
  var waiting: Rounded?
  var product: Matrix?  // activation(gate) * up; nil: computed again
  var mlpOutput: BranchOutput?
  /// x Aᵀ of each adapted module, indexed by `Module`.
  var low: UnsafeMutablePointer<Low>

  /// [T, rank]; no columns where there is no adapter.
  struct Low: BitwiseCopyable {
    let columns: Int
    let floats: Matrix?
    let rounded: RoundedMatrix?
  }

  /// What waits for the backward pass in BF16. Attention packs q, k and v to the same bits again.
  struct Rounded {
    let x: RoundedMatrix
    let qkv: RoundedMatrix  // side by side
    let attention: RoundedMatrix
    let middle: RoundedMatrix

    init(_ c: ModelConfiguration, tokens: Int, finished rows: Int, in arena: Arena) {
      func matrix(_ columns: Int) -> RoundedMatrix {
        RoundedMatrix(in: arena, rows: tokens, columns: columns)
      }
      x = matrix(c.hidden)
      qkv = matrix(c.queryWidth + 2 * c.keyWidth)
      attention = matrix(c.queryWidth)
      middle = RoundedMatrix(in: arena, rows: rows, columns: c.hidden)
    }

    func fill(from a: LayerActivations, on executor: Executor) {
      let columns = 2 * x.columns + qkv.columns + attention.columns
      let span = executor.begin(.rows(.copy, x.rows, columns, .forward, bytesEach: 6))
      defer { executor.end(span) }
      executor.parallel(x.rows, grain: 8) { range in
        x.round(range, of: a.x, executor)
        qkv.round(range, of: a.q, executor)
        qkv.round(range, of: a.k, at: a.q.columns, executor)
        qkv.round(range, of: a.v, at: a.q.columns + a.k.columns, executor)
        attention.round(range, of: a.attention, executor)
        middle.round(range.clamped(to: 0..<middle.rows), of: a.middle, executor)
      }
    }
  }

  /// What attention or MLP computed, where a norm stands between it and the residual stream.
  struct BranchOutput {
    let values: Matrix  // [T, hidden]
    let inverse: UnsafeMutablePointer<Float>
  }

  /// What the activation multiplies.
  struct Gates {
    let gate: Matrix
    let up: Matrix
    /// Side by side where they are one product.
    let both: Matrix?

    init(_ c: ModelConfiguration, rows: Int, in arena: Arena) {
      func matrix(_ columns: Int) -> Matrix { Matrix(in: arena, rows: rows, columns: columns) }
      both = c.isFused ? matrix(c.outputs(.gateUp)) : nil
      gate = both?.columns(0..<c.intermediate) ?? matrix(c.intermediate)
      up = both?.columns(c.intermediate..<2 * c.intermediate) ?? matrix(c.intermediate)
    }
  }

  /// How much of it is wanted.
  enum Extent {
    /// No backward pass follows.
    case forward
    /// What is cheap is left out.
    case lean
    case all
  }

  init(
    _ c: ModelConfiguration, _ weights: LayerWeights, of x: Matrix, finishing: RowSelection?,
    _ extent: Extent, _ type: ComputeType, in arena: Arena
  ) {
    start = arena.mark
    let rounds = extent != .forward && type == .bf16
    let lean = extent == .lean || rounds
    let tokens = x.rows
    let rows = finishing?.count ?? tokens
    finished = finishing
    self.x = x
    func matrix(_ columns: Int) -> Matrix { Matrix(in: arena, rows: tokens, columns: columns) }
    func leaving(_ columns: Int) -> Matrix { Matrix(in: arena, rows: rows, columns: columns) }
    func floats(_ n: Int) -> UnsafeMutablePointer<Float> {
      arena.allocate(Float.self, count: max(1, n))
    }
    func output(_ norm: String?) -> BranchOutput? {
      norm.map { _ in BranchOutput(values: leaving(c.hidden), inverse: floats(rows)) }
    }
    inputInverse = floats(tokens)
    if c.headNorm != .none {
      rawQ = matrix(c.queryWidth)
      rawK = matrix(c.keyWidth)
      queryInverse = floats(tokens * c.heads)
      keyInverse = floats(tokens * c.keyHeads)
    }
    lse = floats(tokens * c.heads)
    attentionOutput = output(c.norms.attentionOutput)
    middleInverse = floats(rows)
    if rounds {
      rounded = RoundedGates(in: arena, rows: rows, columns: c.intermediate)
      waiting = Rounded(c, tokens: tokens, finished: rows, in: arena)
    } else if extent != .forward {
      gates = Gates(c, rows: rows, in: arena)
      product = lean ? nil : leaving(c.intermediate)
    }
    mlpOutput = output(c.norms.mlpOutput)
    low = arena.allocate(Low.self, count: weights.linears.count)
    for index in 0..<weights.linears.count {
      let rank = weights.linears[index]?.adapter?.a.outputs ?? 0
      let own = Module(rawValue: index)!.precedesAttention ? tokens : rows
      low[index] = Low(
        columns: rank, floats: rounds ? nil : Matrix(in: arena, rows: own, columns: rank),
        rounded: rounds ? RoundedMatrix(in: arena, rows: own, columns: rank) : nil)
    }
    let kept = arena.mark
    middle = leaving(c.hidden)
    attentionStart = arena.mark
    if c.isFused {
      let all = matrix(c.outputs(.qkv))
      let keys = c.queryWidth..<c.queryWidth + c.keyWidth
      q = all.columns(0..<c.queryWidth)
      k = all.columns(keys)
      v = all.columns(keys.upperBound..<keys.upperBound + c.keyWidth)
      qkv = all
    } else {
      q = matrix(c.queryWidth)
      k = matrix(c.keyWidth)
      v = matrix(c.keyWidth)
    }
    attention = matrix(c.queryWidth)
    normed = c.norms.input == nil && !rounds ? x : lean ? nil : matrix(c.hidden)
    middleNormed = c.norms.mlpInput == nil && !rounds ? middle : lean ? nil : leaving(c.hidden)
    self.kept = rounds ? kept : arena.mark
  }
}
