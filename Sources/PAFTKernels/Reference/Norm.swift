// SPDX-License-Identifier: Apache-2.0

/// y = x * r * w, r = 1/sqrt(mean(x^2) + eps) (Zhang, Sennrich 2019).
func rmsNorm_f32(
  _ y: KernelTable.Out, _ x: KernelTable.In, _ w: KernelTable.In, _ inverse: KernelTable.Out,
  _ rows: Int, _ dim: Int, _ stride: Int, _ eps: Float, _: Int
) {
  for row in 0..<rows {
    let (x, y) = (x + row &* stride, y + row &* stride)
    var squares = 0.0
    for i in 0..<dim { squares += Double(x[i]) * Double(x[i]) }
    let r = Float(1 / (squares / Double(dim) + Double(eps)).squareRoot())
    inverse[row] = r
    for i in 0..<dim { y[i] = x[i] * r * w[i] }
  }
}

/// dx (+)= (dy*w - x * r^2 * mean(dy*w*x)) * r;  dw += dy * x * r.
func rmsNormBackward_f32(
  _ dx: KernelTable.Out, _ dw: KernelTable.Out?, _ dy: KernelTable.In, _ x: KernelTable.In,
  _ w: KernelTable.In, _ inverse: KernelTable.In, _ rows: Int, _ dim: Int, _ stride: Int,
  _ assign: Int
) {
  for row in 0..<rows {
    let (x, dy, dx) = (x + row &* stride, dy + row &* stride, dx + row &* stride)
    let r = inverse[row]
    var projection = 0.0
    for i in 0..<dim { projection += Double(dy[i]) * Double(w[i]) * Double(x[i]) }
    let shrink = Float(projection / Double(dim) * Double(r) * Double(r))
    for i in 0..<dim {
      if let dw { dw[i] += dy[i] * x[i] * r }
      let gradient = (dy[i] * w[i] - x[i] * shrink) * r
      dx[i] = assign != 0 ? gradient : dx[i] + gradient
    }
  }
}
