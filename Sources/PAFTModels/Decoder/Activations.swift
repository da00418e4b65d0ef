// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

/// What one layer's forward pass leaves for its backward pass. T rows each.
struct LayerActivations {
  var x: Matrix  // input, [T, hidden]
  var inputInverse: UnsafeMutablePointer<Float>
  var normed: Matrix  // [T, hidden]
  var q: Matrix  // after norm and rotation
  var k: Matrix
  var v: Matrix
  var rawQ: Matrix?  // before the head norm
  var rawK: Matrix?
  var queryInverse: UnsafeMutablePointer<Float>?
  var keyInverse: UnsafeMutablePointer<Float>?
  var attention: Matrix  // [T, queryWidth]
  var lse: UnsafeMutablePointer<Float>  // [T, heads]
  var middle: Matrix  // after the attention residual, [T, hidden]
  var middleInverse: UnsafeMutablePointer<Float>
  var middleNormed: Matrix
  var gate: Matrix
  var up: Matrix
  var product: Matrix  // silu(gate) * up
  /// x Aᵀ of each adapted module, indexed by `Module`; no rows where there is no adapter.
  var low: UnsafeMutablePointer<Matrix>

  init(_ c: ModelConfiguration, _ weights: LayerWeights, tokens: Int, in arena: Arena) {
    func matrix(_ columns: Int) -> Matrix { Matrix(in: arena, rows: tokens, columns: columns) }
    func floats(_ n: Int) -> UnsafeMutablePointer<Float> {
      arena.allocate(Float.self, count: max(1, n))
    }
    x = matrix(c.hidden)
    inputInverse = floats(tokens)
    normed = matrix(c.hidden)
    q = matrix(c.queryWidth)
    k = matrix(c.keyWidth)
    v = matrix(c.keyWidth)
    if c.headNorm {
      rawQ = matrix(c.queryWidth)
      rawK = matrix(c.keyWidth)
      queryInverse = floats(tokens * c.heads)
      keyInverse = floats(tokens * c.keyHeads)
    }
    attention = matrix(c.queryWidth)
    lse = floats(tokens * c.heads)
    middle = matrix(c.hidden)
    middleInverse = floats(tokens)
    middleNormed = matrix(c.hidden)
    gate = matrix(c.intermediate)
    up = matrix(c.intermediate)
    product = matrix(c.intermediate)
    low = arena.allocate(Matrix.self, count: Module.allCases.count)
    for index in 0..<weights.linears.count {
      let rank = weights.linears[index].adapter?.a.outputs
      low[index] = Matrix(in: arena, rows: rank == nil ? 0 : tokens, columns: rank ?? 0)
    }
  }
}
