// SPDX-License-Identifier: Apache-2.0

/// The leaf maths of one instruction set: single-thread C functions on raw pointers.
///
/// Shapes: `m` rows (tokens), `n` columns, `k` reduced dimension. Activations are Float; in bf16
/// compute the GEMM operands are rounded to BF16 while they are packed and products accumulate in
/// Float. Nothing here allocates, throws or knows of threads. A table starts as `reference` and an
/// instruction set overrides what it has, so a missing kernel is slow and never absent.
///
/// Packed layouts (the table that packs is the table that multiplies):
///   A panel: `tile.rows` (MR) rows. Float: [k][MR]. BF16: [ceil(k/2)][MR][2], the pair runs along k.
///   B panel: up to `tile.columns` (NR) columns; its stored width W is the number of valid columns
///   rounded up to `tile.lanes`. Float: [k][W]. BF16: [ceil(k/2)][W][2].
///   Missing rows, columns and the odd k are zeros, so a tile never reads what was not written.
package struct KernelTable: Sendable {
  package typealias In = UnsafePointer<Float>
  package typealias Out = UnsafeMutablePointer<Float>
  package typealias In16 = UnsafePointer<UInt16>
  package typealias Out16 = UnsafeMutablePointer<UInt16>

  /// Micro-tile of C held in registers.
  package struct Tile: Sendable, Equatable, BitwiseCopyable {
    package var rows: Int
    package var columns: Int
    package var lanes: Int
    package init(rows: Int, columns: Int, lanes: Int) {
      self.rows = rows
      self.columns = columns
      self.lanes = lanes
    }
    /// Stored width of a B panel with `columns` valid columns.
    @inlinable package func width(_ columns: Int) -> Int { (columns + lanes - 1) / lanes * lanes }
  }

  /// "reference", "avx2", "avx512", "avx512bf16".
  package var name: String
  package var tile: Tile

  // MARK: GEMM

  /// C[rows, columns] = alpha * A·B (+ C when `accumulate` != 0), row stride `ldc`.
  /// 1 <= rows <= MR, 1 <= columns <= NR, k >= 0. Only the valid part of C is read and written.
  package var gemmTile_f32:
    @convention(c) (
      _ a: In, _ b: In, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int,
      _ alpha: Float, _ accumulate: Int
    ) -> Void
  /// The same with BF16 operands and Float accumulation. The pair instruction of `avx512bf16` takes
  /// subnormal operands as zero and flushes subnormal sums, so tables agree to rounding, not in bits.
  package var gemmTile_bf16:
    @convention(c) (
      _ a: In16, _ b: In16, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int,
      _ alpha: Float, _ accumulate: Int
    ) -> Void

  /// One A panel from row-major source [rows, k] with row stride `stride`; rows <= MR.
  package var packA_f32:
    @convention(c) (_ dst: Out, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  package var packA_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  /// One A panel from a source stored [k, rows] (transposed), row stride `stride`; rows <= MR.
  package var packAT_f32:
    @convention(c) (_ dst: Out, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  package var packAT_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  /// One B panel from a source stored [k, columns] with row stride `stride`; columns <= NR.
  package var packB_f32:
    @convention(c) (_ dst: Out, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  package var packB_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  /// One B panel from a source stored [columns, k] (a weight [out, in]); columns <= NR.
  package var packBT_f32:
    @convention(c) (_ dst: Out, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  package var packBT_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void

  // MARK: norms, rotary, activation

  /// y = x * r * w with r = 1/sqrt(mean(x^2) + eps), written to `inverse[row]`. Rows of `dim`
  /// contiguous values, `stride` apart in both x and y. x and y may be the same memory.
  package var rmsNorm_f32:
    @convention(c) (
      _ y: Out, _ x: In, _ w: In, _ inverse: Out, _ rows: Int, _ dim: Int, _ stride: Int,
      _ eps: Float
    ) -> Void
  /// dx += (dy*w - x * r^2 * mean(dy*w*x)) * r;  dw += dy * x * r (skipped when dw is nil). With
  /// `assign` != 0, dx is overwritten instead of added to (dy and dx may then be the same memory).
  package var rmsNormBackward_f32:
    @convention(c) (
      _ dx: Out, _ dw: Out?, _ dy: In, _ x: In, _ w: In, _ inverse: In, _ rows: Int, _ dim: Int,
      _ stride: Int, _ assign: Int
    ) -> Void
  /// Rotates `heads` consecutive heads of `dim` values in place, half-split convention:
  /// (a, b) = (x[i], x[i + dim/2]) -> (a*cos - sign*b*sin, b*cos + sign*a*sin). cos, sin: dim/2
  /// values of this position. sign = 1 forward, -1 backward.
  package var rope_f32:
    @convention(c) (_ x: Out, _ cos: In, _ sin: In, _ heads: Int, _ dim: Int, _ sign: Float) -> Void
  /// y = silu(gate) * up.
  package var swiglu_f32: @convention(c) (_ y: Out, _ gate: In, _ up: In, _ n: Int) -> Void
  /// dgate, dup from dy; dgate may alias gate and dup may alias up; dy may alias neither.
  package var swigluBackward_f32:
    @convention(c) (_ dgate: Out, _ dup: Out, _ dy: In, _ gate: In, _ up: In, _ n: Int) -> Void

  // MARK: softmax and loss rows

  /// Online softmax of one score row: s <- exp(scale*s - m'), where m' = max(m, scale*max(s)).
  /// Updates `state[0]` = m (starts at -inf) and `state[1]` = l (sum, starts at 0); returns the
  /// factor exp(m - m') by which earlier accumulators must shrink (0 when m was -inf). scale > 0.
  /// While every score so far is -inf the row becomes zeros and the state stays (-inf, 0). A NaN
  /// score does not win the maximum but makes the sum NaN.
  package var softmaxOnline_f32:
    @convention(c) (_ s: Out, _ n: Int, _ scale: Float, _ state: Out) -> Float
  /// Backward of one attention row: p = exp(scale*s - lse); s <- p; dp <- p * (dp - delta) * scale.
  package var softmaxBackward_f32:
    @convention(c) (_ s: Out, _ dp: Out, _ n: Int, _ scale: Float, _ lse: Float, _ delta: Float) ->
      Void
  /// Folds a row of logits into `state` = (max, sum of exp(x - max)); starts at (-inf, 0).
  package var logSumExp_f32: @convention(c) (_ x: In, _ n: Int, _ state: Out) -> Void
  /// x <- scale * exp(x - lse): the softmax part of a cross-entropy gradient.
  package var softmaxGradient_f32:
    @convention(c) (_ x: Out, _ n: Int, _ lse: Float, _ scale: Float) -> Void
  /// Index of the first largest value; NaN never wins (a row of NaN answers 0). n >= 1.
  package var argmax_f32: @convention(c) (_ x: In, _ n: Int) -> Int

  // MARK: vectors

  /// y += alpha * x.
  package var axpy_f32: @convention(c) (_ y: Out, _ x: In, _ alpha: Float, _ n: Int) -> Void
  /// y *= alpha.
  package var scale_f32: @convention(c) (_ y: Out, _ alpha: Float, _ n: Int) -> Void
  /// Sum x*y, Double accumulation in a fixed order.
  package var dot_f32: @convention(c) (_ x: In, _ y: In, _ n: Int) -> Double
  /// Sum x^2 in Double. NaN and Inf propagate: this is also the finite check of a gradient.
  package var sumSquares_f32: @convention(c) (_ x: In, _ n: Int) -> Double
  /// Sum |x| in Double.
  package var sumAbsolute_f32: @convention(c) (_ x: In, _ n: Int) -> Double
  /// x <- sign(x) with sign(0) = +0; NaN stays NaN.
  package var sign_f32: @convention(c) (_ x: Out, _ n: Int) -> Void
  /// Round to nearest even, subnormals kept, NaN stays NaN (quiet).
  package var toBF16: @convention(c) (_ dst: Out16, _ src: In, _ n: Int) -> Void
  /// Exact.
  package var fromBF16: @convention(c) (_ dst: Out, _ src: In16, _ n: Int) -> Void

  // MARK: optimizer

  /// AdamW (Loshchilov, Hutter 2019), decoupled decay, gradient pre-scaled by `gradientScale`:
  /// m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g^2;
  /// p = p*(1 - lr*decay) - lr * (m/c1) / (sqrt(v/c2) + eps), c1 = 1-b1^t, c2 = 1-b2^t.
  /// `scalars`: the eight values of `AdamWScalars` in order.
  package var adamW_f32:
    @convention(c) (
      _ p: Out, _ m: Out, _ v: Out, _ g: In, _ n: Int, _ scalars: In
    ) -> Void
  /// Proximal step on the delta: p <- base + soft(p - base, threshold), exactly base inside.
  package var softThreshold_f32:
    @convention(c) (_ p: Out, _ base: In, _ threshold: Float, _ n: Int) -> Void

  /// Every kernel at once: only the reference table is built this way, so no table can lack one.
  package init(
    name: String,
    tile: Tile,
    gemmTile_f32: @escaping @convention(c) (In, In, Out, Int, Int, Int, Int, Float, Int) -> Void,
    gemmTile_bf16:
      @escaping @convention(c) (In16, In16, Out, Int, Int, Int, Int, Float, Int) -> Void,
    packA_f32: @escaping @convention(c) (Out, In, Int, Int, Int) -> Void,
    packA_bf16: @escaping @convention(c) (Out16, In, Int, Int, Int) -> Void,
    packAT_f32: @escaping @convention(c) (Out, In, Int, Int, Int) -> Void,
    packAT_bf16: @escaping @convention(c) (Out16, In, Int, Int, Int) -> Void,
    packB_f32: @escaping @convention(c) (Out, In, Int, Int, Int) -> Void,
    packB_bf16: @escaping @convention(c) (Out16, In, Int, Int, Int) -> Void,
    packBT_f32: @escaping @convention(c) (Out, In, Int, Int, Int) -> Void,
    packBT_bf16: @escaping @convention(c) (Out16, In, Int, Int, Int) -> Void,
    rmsNorm_f32: @escaping @convention(c) (Out, In, In, Out, Int, Int, Int, Float) -> Void,
    rmsNormBackward_f32:
      @escaping @convention(c) (Out, Out?, In, In, In, In, Int, Int, Int, Int) -> Void,
    rope_f32: @escaping @convention(c) (Out, In, In, Int, Int, Float) -> Void,
    swiglu_f32: @escaping @convention(c) (Out, In, In, Int) -> Void,
    swigluBackward_f32: @escaping @convention(c) (Out, Out, In, In, In, Int) -> Void,
    softmaxOnline_f32: @escaping @convention(c) (Out, Int, Float, Out) -> Float,
    softmaxBackward_f32: @escaping @convention(c) (Out, Out, Int, Float, Float, Float) -> Void,
    logSumExp_f32: @escaping @convention(c) (In, Int, Out) -> Void,
    softmaxGradient_f32: @escaping @convention(c) (Out, Int, Float, Float) -> Void,
    argmax_f32: @escaping @convention(c) (In, Int) -> Int,
    axpy_f32: @escaping @convention(c) (Out, In, Float, Int) -> Void,
    scale_f32: @escaping @convention(c) (Out, Float, Int) -> Void,
    dot_f32: @escaping @convention(c) (In, In, Int) -> Double,
    sumSquares_f32: @escaping @convention(c) (In, Int) -> Double,
    sumAbsolute_f32: @escaping @convention(c) (In, Int) -> Double,
    sign_f32: @escaping @convention(c) (Out, Int) -> Void,
    toBF16: @escaping @convention(c) (Out16, In, Int) -> Void,
    fromBF16: @escaping @convention(c) (Out, In16, Int) -> Void,
    adamW_f32: @escaping @convention(c) (Out, Out, Out, In, Int, In) -> Void,
    softThreshold_f32: @escaping @convention(c) (Out, In, Float, Int) -> Void
  ) {
    self.name = name
    self.tile = tile
    self.gemmTile_f32 = gemmTile_f32
    self.gemmTile_bf16 = gemmTile_bf16
    self.packA_f32 = packA_f32
    self.packA_bf16 = packA_bf16
    self.packAT_f32 = packAT_f32
    self.packAT_bf16 = packAT_bf16
    self.packB_f32 = packB_f32
    self.packB_bf16 = packB_bf16
    self.packBT_f32 = packBT_f32
    self.packBT_bf16 = packBT_bf16
    self.rmsNorm_f32 = rmsNorm_f32
    self.rmsNormBackward_f32 = rmsNormBackward_f32
    self.rope_f32 = rope_f32
    self.swiglu_f32 = swiglu_f32
    self.swigluBackward_f32 = swigluBackward_f32
    self.softmaxOnline_f32 = softmaxOnline_f32
    self.softmaxBackward_f32 = softmaxBackward_f32
    self.logSumExp_f32 = logSumExp_f32
    self.softmaxGradient_f32 = softmaxGradient_f32
    self.argmax_f32 = argmax_f32
    self.axpy_f32 = axpy_f32
    self.scale_f32 = scale_f32
    self.dot_f32 = dot_f32
    self.sumSquares_f32 = sumSquares_f32
    self.sumAbsolute_f32 = sumAbsolute_f32
    self.sign_f32 = sign_f32
    self.toBF16 = toBF16
    self.fromBF16 = fromBF16
    self.adamW_f32 = adamW_f32
    self.softThreshold_f32 = softThreshold_f32
  }
}

/// Scalars of one AdamW step, in the order the kernel reads them.
package struct AdamWScalars: Sendable {
  package var learningRate: Float
  package var beta1: Float
  package var beta2: Float
  package var epsilon: Float
  package var weightDecay: Float
  /// 1 - beta1^t and 1 - beta2^t.
  package var correction1: Float
  package var correction2: Float
  package var gradientScale: Float

  package init(
    learningRate: Float, beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float,
    correction1: Float, correction2: Float, gradientScale: Float
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.correction1 = correction1
    self.correction2 = correction2
    self.gradientScale = gradientScale
  }

  /// The values as the eight floats a kernel takes.
  @inlinable package func withFloats<R>(_ body: (UnsafePointer<Float>) -> R) -> R {
    withUnsafePointer(to: self) {
      $0.withMemoryRebound(to: Float.self, capacity: 8) { body($0) }
    }
  }
}
