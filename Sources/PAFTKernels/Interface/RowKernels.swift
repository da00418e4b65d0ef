// SPDX-License-Identifier: Apache-2.0

/// One row after another: norms, rotary positions, the gated activation, softmax and loss rows.
package struct RowKernels: Sendable {
  package typealias In = KernelTable.In
  package typealias Out = KernelTable.Out
  package typealias In16 = KernelTable.In16
  package typealias Out16 = KernelTable.Out16

  /// y = x * r * w with r = 1/sqrt(mean(x^2) + eps), written to `inverse[row]`. Rows of `dim`
  /// contiguous values, `stride` apart in both x and y. x and y may be the same memory. With `streams`
  /// != 0, y goes past the caches: for a y that is larger than them.
  package var rmsNorm_f32:
    @convention(c) (
      _ y: Out, _ x: In, _ w: In, _ inverse: Out, _ rows: Int, _ dim: Int, _ stride: Int,
      _ eps: Float, _ streams: Int
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
  /// y = silu(gate) * up. `streams` as above.
  package var swiglu_f32:
    @convention(c) (_ y: Out, _ gate: In, _ up: In, _ n: Int, _ streams: Int) -> Void
  /// dgate, dup from dy; dgate may alias gate and dup may alias up; dy may alias neither.
  package var swigluBackward_f32:
    @convention(c) (_ dgate: Out, _ dup: Out, _ dy: In, _ gate: In, _ up: In, _ n: Int) -> Void

  /// y = gelu(gate) * up, GELU in its tanh form: g / 2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g³))).
  package var geglu_f32:
    @convention(c) (_ y: Out, _ gate: In, _ up: In, _ n: Int, _ streams: Int) -> Void
  /// As `swigluBackward_f32`.
  package var gegluBackward_f32:
    @convention(c) (_ dgate: Out, _ dup: Out, _ dy: In, _ gate: In, _ up: In, _ n: Int) -> Void
  /// The product, with gate and up rounded to BF16 besides, for the backward pass; what is below 2^-126
  /// may become 0 there.
  package var swigluKeeping_bf16:
    @convention(c) (
      _ y: Out, _ keptGate: Out16, _ keptUp: Out16, _ gate: In, _ up: In, _ n: Int
    ) -> Void
  package var gegluKeeping_bf16:
    @convention(c) (
      _ y: Out, _ keptGate: Out16, _ keptUp: Out16, _ gate: In, _ up: In, _ n: Int
    ) -> Void
  /// dgate and dup of a gate and up in BF16; unless nil, both rounded to BF16 besides (what is below
  /// 2^-126 may become 0), and the product again. dup may alias dy; what is rounded may begin where dy,
  /// gate or up does, and nothing else may overlap.
  package var swigluBackward_bf16:
    @convention(c) (
      _ dgate: Out, _ dup: Out, _ roundedGate: Out16?, _ roundedUp: Out16?, _ product: Out16?,
      _ dy: In, _ gate: In16, _ up: In16, _ n: Int
    ) -> Void
  package var gegluBackward_bf16:
    @convention(c) (
      _ dgate: Out, _ dup: Out, _ roundedGate: Out16?, _ roundedUp: Out16?, _ product: Out16?,
      _ dy: In, _ gate: In16, _ up: In16, _ n: Int
    ) -> Void
  /// x <- outer * tanh(inner * x), where -inf stays; slopes <- 1 - tanh(inner * x)² unless nil.
  package var softcap_f32:
    @convention(c) (_ x: Out, _ slopes: Out?, _ n: Int, _ inner: Float, _ outer: Float) -> Void

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
}
