// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

/// One decoder block, forward and backward:
///   n = norm(x);  q, k, v = n W;  q, k normed and rotated
///   m = x + s norm(attention(q, k, v) Wo);  y = m + s norm((act(norm(m) Wg) * norm(m) Wu) Wd)
/// of which a family has some norms and not others (`BlockNorms`), mostly s = 1, and perhaps q, k, v
/// or gate, up as one product. Where a block finishes only some rows, everything after the attention
/// is of those.
extension Decoder {
  /// Fills `a` (whose `x` is set) and, when given, `output`.
  func forward(
    _ layer: Int, _ a: LayerActivations, _ w: LayerWeights, _ batch: Batch, into output: Matrix?
  ) {
    forward(layer, a, w, batch, into: output) {
      Attention.forward(
        q: a.q, k: a.k, v: a.v, sequences: batch.sequences,
        shape: configuration.attention(layer: layer), into: a.attention, lse: a.lse, on: executor)
    }
  }

  /// The same with another way to attend: `attend` fills a.attention from a.q, a.k and a.v.
  @inline(__always)
  func forward(
    _ layer: Int, _ a: LayerActivations, _ w: LayerWeights, _ batch: Batch, into output: Matrix?,
    attend: () -> Void
  ) {
    let c = configuration
    w.prepare(.forward, on: executor)
    executor.withScratch { scratch in
      let packed = operand(
        a.x, w.inputNorm, normed: a.normed, inverse: a.inputInverse, w,
        for: a.qkv == nil ? (.q, .v) : (.qkv, .qkv), in: scratch)
      if let qkv = a.qkv {
        project(packed, .qkv, w, a, into: qkv)
      } else {
        project(packed, .q, w, a, into: a.rawQ ?? a.q)
        project(packed, .k, w, a, into: a.rawK ?? a.k)
        project(packed, .v, w, a, into: a.v)
      }
    }
    if let rawQ = a.rawQ, let rawK = a.rawK {
      RMSNorm.forward(
        rawQ, weight: w.queryNorm!, dim: c.queryNormWidth, eps: c.normEpsilon, into: a.q,
        inverse: a.queryInverse!, on: executor)
      RMSNorm.forward(
        rawK, weight: w.keyNorm!, dim: c.keyNormWidth, eps: c.normEpsilon, into: a.k,
        inverse: a.keyInverse!, on: executor)
    }
    rotate(a.q, layer, sign: 1)
    rotate(a.k, layer, sign: 1)
    attend()
    executor.withScratch { scratch in
      let packed = w.operand((.o, .o), tokens: a.middle.rows, in: scratch, on: executor)
      packed.fill(from: finished(a.attention, a, in: scratch), on: executor)
      residual(
        packed, .o, w, a, output: a.attentionOutput, norm: w.attentionOutputNorm,
        base: finished(a.x, a, in: scratch), into: a.middle)
    }
    if let waiting = a.waiting {
      waiting.fill(from: a, on: executor)
      executor.scratch.release(to: a.attentionStart)
    }
    executor.withScratch { scratch in
      forwardMLP(a, w, into: output, in: scratch)
    }
  }

  /// The rows of `x` that the block finishes.
  private func finished(_ x: Matrix, _ a: LayerActivations, in scratch: Arena) -> Matrix {
    a.finished?.gather(x, in: scratch, on: executor) ?? x
  }

  private func forwardMLP(
    _ a: LayerActivations, _ w: LayerWeights, into output: Matrix?, in scratch: Arena
  ) {
    let c = configuration
    let rows = a.middle.rows
    let gates = a.gates ?? LayerActivations.Gates(c, rows: rows, in: scratch)
    executor.withScratch { scratch in
      let packed = operand(
        a.middle, w.mlpInputNorm, normed: a.middleNormed, inverse: a.middleInverse, w,
        for: gates.both == nil ? (.gate, .up) : (.gateUp, .gateUp), in: scratch)
      if let both = gates.both {
        project(packed, .gateUp, w, a, into: both)
      } else {
        project(packed, .gate, w, a, into: gates.gate)
        project(packed, .up, w, a, into: gates.up)
      }
    }
    let down = w.linears[Module.down.rawValue]!.adapter
    if output == nil && down == nil && a.mlpOutput == nil {
      a.rounded?.fill(gate: gates.gate, up: gates.up, on: executor)
      if let product = a.product {
        SwiGLU.forward(
          gate: gates.gate, up: gates.up, by: c.activation, into: product, on: executor)
      }
      return
    }
    let packed = w.operand((.down, .down), tokens: rows, in: scratch, on: executor)
    SwiGLU.forward(
      gate: gates.gate, up: gates.up, by: c.activation, into: a.product, keeping: a.rounded,
      packed: packed, on: executor)
    if output != nil || a.mlpOutput != nil {
      residual(
        packed, .down, w, a, output: a.mlpOutput, norm: w.mlpOutputNorm, base: a.middle,
        into: output)
    } else if let down {
      // Recomputation for the backward pass: of the last product only its adapter part is read.
      _ = low(packed.packed!, down, into: a.low[Module.down.rawValue], in: scratch)
    }
  }

  /// x as the left operand of the products that follow, normed into `normed` where there is a norm.
  private func operand(
    _ x: Matrix, _ norm: UnsafePointer<Float>?, normed: Matrix?,
    inverse: UnsafeMutablePointer<Float>, _ w: LayerWeights, for modules: (Module, Module),
    in scratch: Arena
  ) -> LinearRows {
    let packed = w.operand(modules, tokens: x.rows, in: scratch, on: executor)
    guard let norm else {
      packed.fill(from: x, on: executor)
      return packed
    }
    RMSNorm.forward(
      x, weight: norm, eps: configuration.normEpsilon,
      into: normed ?? Matrix(in: scratch, rows: x.rows, columns: x.columns), inverse: inverse,
      packed: packed, on: executor)
    return packed
  }

  /// What waits rounded, as Floats again.
  private func floats(_ waiting: RoundedMatrix?, _ computed: Matrix?, in scratch: Arena) -> Matrix {
    waiting?.floats(in: scratch, on: executor) ?? computed!
  }

  /// A block's normed input for the gradients that read it: kept, or computed again to the same bits;
  /// `inPlace` where x may be overwritten.
  private func normedAgain(
    _ kept: Matrix?, _ x: Matrix, inPlace: Bool, _ norm: UnsafePointer<Float>?,
    inverse: UnsafeMutablePointer<Float>, for modules: [Module], _ g: LayerGradients,
    in scratch: Arena
  ) -> Matrix? {
    if let kept { return kept }
    guard modules.contains(where: { g.linears[$0.rawValue].readsInput }) else { return nil }
    guard let norm else { return x }
    let normed = inPlace ? x : Matrix(in: scratch, rows: x.rows, columns: x.columns)
    RMSNorm.forward(
      x, weight: norm, dim: x.columns, eps: configuration.normEpsilon, into: normed,
      inverse: inverse, on: executor)
    return normed
  }

  private func rotate(_ x: Matrix, _ layer: Int, sign: Float) {
    guard let rope = configuration.layerRopes[layer] else { return }
    Rotary.apply(
      x, positions: rotaryRows, table: rotary[rope], headSize: configuration.headSize, sign: sign,
      on: executor)
  }

  /// result = base + s norm(x Wᵀ + bias (+ adapter)). What the norm reads stays in `output`; without
  /// a result only that is computed.
  private func residual(
    _ x: LinearRows, _ module: Module, _ w: LayerWeights, _ a: LayerActivations,
    output: LayerActivations.BranchOutput?, norm: UnsafePointer<Float>?, base: Matrix,
    into result: Matrix?
  ) {
    let c = configuration
    if c.addsPlainly, let result {
      return residual(x, module, w, a, base: base, into: result)
    }
    executor.withScratch { scratch in
      let values = output?.values ?? Matrix(in: scratch, rows: x.m, columns: c.hidden)
      project(x, module, w, a, into: values)
      var added = values
      if let norm, let output {
        added = Matrix(in: scratch, rows: x.m, columns: c.hidden)
        RMSNorm.forward(
          values, weight: norm, dim: c.hidden, eps: c.normEpsilon, into: added,
          inverse: output.inverse, on: executor)
      }
      guard let result else { return }
      Elementwise.copy(base, to: result, on: executor)
      Elementwise.add(added, to: result, alpha: c.residualScale, on: executor)
    }
  }

  /// y = x Wᵀ + bias (+ adapter).
  private func project(
    _ x: LinearRows, _ module: Module, _ w: LayerWeights, _ a: LayerActivations, into y: Matrix
  ) {
    let linear = w.linears[module.rawValue]!
    executor.withScratch { scratch in
      linear.weight.forward(
        x, bias: linear.bias, into: y,
        adapter: lowRank(x, linear, into: a.low[module.rawValue], in: scratch), on: executor)
    }
  }

  /// output = base + x Wᵀ + bias (+ adapter).
  private func residual(
    _ x: LinearRows, _ module: Module, _ w: LayerWeights, _ a: LayerActivations, base: Matrix,
    into output: Matrix
  ) {
    let linear = w.linears[module.rawValue]!
    executor.withScratch { scratch in
      linear.weight.forward(
        x, base: base, bias: linear.bias, into: output,
        adapter: lowRank(x, linear, into: a.low[module.rawValue], in: scratch), on: executor)
    }
  }

  /// What y = x Wᵀ has added by its adapter, scale (x Aᵀ) Bᵀ, and x Aᵀ kept for the backward pass.
  private func lowRank(
    _ x: LinearRows, _ linear: LinearWeights, into low: LayerActivations.Low, in scratch: Arena
  ) -> Linear.LowRank? {
    guard let adapter = linear.adapter, let x = x.packed else { return nil }
    return Linear.LowRank(
      Linear.pack(
        self.low(x, adapter, into: low, in: scratch), in: scratch, on: executor),
      adapter.b, scale: adapter.scale)
  }

  /// x Aᵀ, kept.
  private func low(
    _ x: PackedRows, _ adapter: AdapterWeights, into low: LayerActivations.Low, in scratch: Arena
  ) -> Matrix {
    let values = low.floats ?? Matrix(in: scratch, rows: x.m, columns: low.columns)
    Linear.forward(x, adapter.a, into: values, on: executor)
    low.rounded?.fill(from: values, on: executor)
    return values
  }

  // MARK: - Backward

  /// On return `dx` is the gradient of the block's input (left unfinished when `needsInput` is false).
  /// Overwrites a.gates and a.rounded.
  ///
  /// - Parameter dy: the gradient of the rows that the block finishes, which is used up; `dx` itself
  ///   where it finishes all.
  func backward(
    _ layer: Int, _ a: LayerActivations, _ w: LayerWeights, _ g: LayerGradients, _ batch: Batch,
    dy: Matrix, dx: Matrix, needsInput: Bool
  ) {
    w.prepare(.backward, on: executor)
    executor.withScratch { scratch in
      backwardMLP(a, w, g, dx: dy, in: scratch)
    }
    executor.withScratch { scratch in
      backwardAttention(
        layer, a, w, g, batch, dy: dy, dx: dx, needsInput: needsInput, in: scratch)
    }
  }

  private func backwardMLP(
    _ a: LayerActivations, _ w: LayerWeights, _ g: LayerGradients, dx: Matrix, in scratch: Arena
  ) {
    let c = configuration
    let tokens = dx.rows
    let dproduct = Matrix(in: scratch, rows: tokens, columns: c.intermediate)
    let sink = g.linears[Module.down.rawValue]
    let modules: [Module] = c.isFused ? [.gateUp] : [.gate, .up]
    // Of a frozen MLP only adapters' gradients read the product, the gate's and the up's: those of the walk
    // back through the gates will do, which leaves them rounded.
    func isFrozen(_ module: Module) -> Bool {
      let sink = g.linears[module.rawValue]
      return sink.weight == nil && sink.bias == nil
        && a.low[module.rawValue].columns <= Linear.thin
    }
    let isFrozen =
      a.rounded != nil && isFrozen(.down)
      && (c.isFused ? isFrozen(.gateUp) : isFrozen(.gate) && isFrozen(.up))
    let isLate = isFrozen && sink.a != nil
    let rank = a.low[Module.down.rawValue].columns
    let dlow = isLate ? Matrix(in: scratch, rows: tokens, columns: rank) : nil
    executor.withScratch { scratch in
      let dy = branchGradient(dx, a.mlpOutput, w.mlpOutputNorm, g.mlpOutputNorm, in: scratch)
      var product = a.product
      if product == nil && sink.readsInput && !isLate {
        let again = Matrix(in: scratch, rows: tokens, columns: c.intermediate)
        if let rounded = a.rounded {
          SwiGLU.forward(rounded, by: c.activation, into: again, on: executor)
        } else if let gates = a.gates {
          SwiGLU.forward(
            gate: gates.gate, up: gates.up, by: c.activation, into: again, on: executor)
        }
        product = again
      }
      gradient(
        dy, .down, x: product, w, g, a, into: dproduct, accumulate: false, keeping: dlow)
    }
    let middle = floats(a.waiting?.middle, a.middle, in: scratch)
    let normed = normedAgain(
      a.middleNormed, middle, inPlace: a.waiting != nil, w.mlpInputNorm, inverse: a.middleInverse,
      for: modules, g, in: scratch)
    /// The products' input gradient: of the norm before them, or of the residual stream itself.
    func target() -> Matrix {
      w.mlpInputNorm == nil ? dx : Matrix(in: scratch, rows: tokens, columns: c.hidden)
    }
    let adds = w.mlpInputNorm == nil
    let dnormed: Matrix
    if c.isFused {
      let gates = a.gates ?? LayerActivations.Gates(c, rows: tokens, in: scratch)
      if let rounded = a.rounded {
        SwiGLU.backward(
          dproduct, rounded, by: c.activation, dgate: gates.gate, dup: gates.up,
          product: isLate, on: executor)
      } else {
        SwiGLU.backward(
          dproduct, gate: gates.gate, up: gates.up, by: c.activation, dgate: gates.gate,
          dup: gates.up, on: executor)
      }
      dnormed = target()
      gradient(gates.both!, .gateUp, x: normed, w, g, a, into: dnormed, accumulate: adds)
    } else {
      let packed = (
        gate: w.gradientOperand(.gate, tokens: tokens, in: scratch, on: executor),
        up: w.gradientOperand(.up, tokens: tokens, in: scratch, on: executor)
      )
      let (dgate, dup): (Rows, Rows)
      if isFrozen, let rounded = a.rounded {
        let gradients = SwiGLU.backward(
          replacing: dproduct, rounded, by: c.activation, packed: packed, on: executor)
        (dgate, dup) = (.rounded(gradients.gate), .rounded(gradients.up))
      } else if let rounded = a.rounded {
        let gate = Matrix(in: scratch, rows: tokens, columns: c.intermediate)
        SwiGLU.backward(
          dproduct, rounded, by: c.activation, dgate: gate, dup: dproduct, packed: packed,
          on: executor)
        (dgate, dup) = (.floats(gate), .floats(dproduct))
      } else {
        let gates = a.gates!
        SwiGLU.backward(
          dproduct, gate: gates.gate, up: gates.up, by: c.activation, packed: packed,
          on: executor)
        (dgate, dup) = (.floats(gates.gate), .floats(gates.up))
      }
      dnormed = target()
      gradient(
        of: dgate, .gate, packed: packed.gate, x: normed, w, g, a, into: dnormed, accumulate: adds)
      gradient(
        of: dup, .up, packed: packed.up, x: normed, w, g, a, into: dnormed, accumulate: true)
    }
    if let dlow, let da = sink.a, let rounded = a.rounded {
      Linear.backwardA(dlow, rounded.gateRows, into: da, on: executor)
    }
    if let norm = w.mlpInputNorm {
      a.waiting?.middle.load(into: middle, on: executor)
      RMSNorm.backward(
        dnormed, x: middle, weight: norm, dim: c.hidden, inverse: a.middleInverse, into: dx,
        dweight: g.mlpInputNorm, assign: false, on: executor)
    }
  }

  private func backwardAttention(
    _ layer: Int, _ a: LayerActivations, _ w: LayerWeights, _ g: LayerGradients, _ batch: Batch,
    dy: Matrix, dx: Matrix, needsInput: Bool, in scratch: Arena
  ) {
    let c = configuration
    let tokens = batch.tokens
    let dqkv = c.isFused ? Matrix(in: scratch, rows: tokens, columns: c.outputs(.qkv)) : nil
    let keys = c.queryWidth..<c.queryWidth + c.keyWidth
    let dq =
      dqkv?.columns(0..<c.queryWidth) ?? Matrix(in: scratch, rows: tokens, columns: c.queryWidth)
    let dk = dqkv?.columns(keys) ?? Matrix(in: scratch, rows: tokens, columns: c.keyWidth)
    let values = keys.upperBound..<keys.upperBound + c.keyWidth
    let dv =
      dqkv?.columns(values) ?? Matrix(in: scratch, rows: tokens, columns: c.keyWidth)
    executor.withScratch { scratch in
      let attention = floats(a.waiting?.attention, a.attention, in: scratch)
      let dattention = Matrix(in: scratch, rows: tokens, columns: c.queryWidth)
      executor.withScratch { scratch in
        let dbranch = branchGradient(
          dy, a.attentionOutput, w.attentionOutputNorm, g.attentionOutputNorm, in: scratch)
        guard let finished = a.finished else {
          return gradient(dbranch, .o, x: attention, w, g, a, into: dattention, accumulate: false)
        }
        let part = Matrix(in: scratch, rows: finished.count, columns: c.queryWidth)
        gradient(
          dbranch, .o, x: finished.gather(attention, in: scratch, on: executor), w, g, a,
          into: part, accumulate: false)
        finished.scatter(part, into: dattention, on: executor)
        finished.scatter(dy, into: dx, on: executor)
      }
      let qkv = a.waiting?.qkv.floats(in: scratch, on: executor)
      Attention.backward(
        dOutput: dattention, output: attention, q: qkv?.columns(0..<c.queryWidth) ?? a.q,
        k: qkv?.columns(keys) ?? a.k, v: qkv?.columns(values) ?? a.v, lse: a.lse,
        sequences: batch.sequences, shape: c.attention(layer: layer), dq: dq, dk: dk, dv: dv,
        on: executor)
    }
    rotate(dq, layer, sign: -1)
    rotate(dk, layer, sign: -1)
    if let rawQ = a.rawQ, let rawK = a.rawK {
      RMSNorm.backward(
        dq, x: rawQ, weight: w.queryNorm!, dim: c.queryNormWidth, inverse: a.queryInverse!,
        into: dq, dweight: g.queryNorm, assign: true, on: executor)
      RMSNorm.backward(
        dk, x: rawK, weight: w.keyNorm!, dim: c.keyNormWidth, inverse: a.keyInverse!, into: dk,
        dweight: g.keyNorm, assign: true, on: executor)
    }
    var target: Matrix?
    let adds = w.inputNorm == nil
    if adds {
      target = needsInput ? dx : nil
    } else if needsInput || g.inputNorm != nil {
      target = Matrix(in: scratch, rows: tokens, columns: c.hidden)
    }
    let x = floats(a.waiting?.x, a.x, in: scratch)
    let normed = normedAgain(
      a.normed, x, inPlace: a.waiting != nil, w.inputNorm, inverse: a.inputInverse,
      for: dqkv == nil ? [.q, .k, .v] : [.qkv], g, in: scratch)
    if let dqkv {
      gradient(dqkv, .qkv, x: normed, w, g, a, into: target, accumulate: adds)
    } else {
      gradient(dq, .q, x: normed, w, g, a, into: target, accumulate: adds)
      gradient(dk, .k, x: normed, w, g, a, into: target, accumulate: true)
      gradient(dv, .v, x: normed, w, g, a, into: target, accumulate: true)
    }
    if let target, let norm = w.inputNorm {
      a.waiting?.x.load(into: x, on: executor)
      RMSNorm.backward(
        target, x: x, weight: norm, dim: c.hidden, inverse: a.inputInverse, into: dx,
        dweight: g.inputNorm, assign: false, on: executor)
    }
  }

  /// The gradient of what attention or MLP computed, from that of the residual stream it went into.
  private func branchGradient(
    _ dx: Matrix, _ output: LayerActivations.BranchOutput?, _ norm: UnsafePointer<Float>?,
    _ dnorm: UnsafeMutablePointer<Float>?, in scratch: Arena
  ) -> Matrix {
    let c = configuration
    if c.addsPlainly { return dx }
    let dy = Matrix(in: scratch, rows: dx.rows, columns: c.hidden)
    Elementwise.copy(dx, to: dy, on: executor)
    if c.residualScale != 1 { Elementwise.scale(dy, by: c.residualScale, on: executor) }
    if let norm, let output {
      RMSNorm.backward(
        dy, x: output.values, weight: norm, dim: c.hidden, inverse: output.inverse, into: dy,
        dweight: dnorm, assign: true, on: executor)
    }
    return dy
  }

  /// Gradients of y = x Wᵀ + bias + scale (x Aᵀ) Bᵀ: those of W, bias, A and B where they are
  /// trained, and dx (+)= dy W + scale (dy B) A where it is asked for. x is there if it is read.
  /// With `keeping`, scale dy B stays there, and A's gradient is left to the caller.
  private func gradient(
    _ dy: Matrix, _ module: Module, x: Matrix?, _ w: LayerWeights, _ g: LayerGradients,
    _ a: LayerActivations, into dx: Matrix?, accumulate: Bool, keeping kept: Matrix? = nil
  ) {
    gradient(
      of: .floats(dy), module, packed: nil, x: x, w, g, a, into: dx, accumulate: accumulate,
      keeping: kept)
  }

  /// The same of a dy that is packed already; a rounded one's layer is frozen.
  private func gradient(
    of dy: Rows, _ module: Module, packed: LinearRows?, x: Matrix?, _ w: LayerWeights,
    _ g: LayerGradients, _ a: LayerActivations, into dx: Matrix?, accumulate: Bool,
    keeping kept: Matrix? = nil
  ) {
    let linear = w.linears[module.rawValue]!
    let sink = g.linears[module.rawValue]
    if case .floats(let dy) = dy {
      if let dweight = sink.weight { Linear.backwardWeight(dy, x!, into: dweight, on: executor) }
      if let dbias = sink.bias { Linear.backwardBias(dy, into: dbias, on: executor) }
    }
    if dx == nil && linear.adapter == nil { return }
    executor.withScratch { scratch in
      let operand =
        packed ?? w.gradientOperand(module, tokens: dy.rows, in: scratch, on: executor)
      if packed == nil, case .floats(let dy) = dy { operand.fill(from: dy, on: executor) }
      var lowRank: Linear.LowRank?
      if let adapter = linear.adapter, let packed = operand.packed {
        let waiting = a.low[module.rawValue]
        let low = floats(waiting.rounded, waiting.floats, in: scratch)
        let dlow = kept ?? Matrix(in: scratch, rows: dy.rows, columns: low.columns)
        Linear.backwardInput(
          packed, adapter.b, into: dlow, alpha: adapter.scale, accumulate: false, on: executor)
        if let db = sink.b {
          Linear.backwardB(dy, low, into: db, alpha: adapter.scale, on: executor)
        }
        if let da = sink.a, kept == nil { Linear.backwardWeight(dlow, x!, into: da, on: executor) }
        if dx != nil {
          lowRank = Linear.LowRank(Linear.pack(dlow, in: scratch, on: executor), adapter.a)
        }
      }
      if let dx {
        linear.weight.backwardInput(
          operand, into: dx, adapter: lowRank, accumulate: accumulate, on: executor)
      }
    }
  }
}
