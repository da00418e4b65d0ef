// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import PAFTOps
import Testing

@Suite("RMSNorm against its formula in Double")
struct NormTests {
  struct Case: Sendable {
    let rows: Int
    let groups: Int
    let dim: Int
    /// Padding of x and of y; a single group with equal strides takes a path of its own.
    let padding: (Int, Int)

    static let all = [
      Case(rows: 1, groups: 1, dim: 1, padding: (0, 0)),
      Case(rows: 9, groups: 1, dim: 67, padding: (3, 3)),
      Case(rows: 70, groups: 1, dim: 896, padding: (0, 5)),
      Case(rows: 65, groups: 3, dim: 64, padding: (2, 2)),
      Case(rows: 129, groups: 14, dim: 7, padding: (1, 0)),
    ]
  }

  static let eps: Float = 1e-5

  @Test("forward and the scales it leaves", arguments: KernelTable.available.map(\.name))
  func forward(_ isa: String) throws {
    for c in Case.all {
      let columns = c.groups * c.dim
      let x = Grid(c.rows, columns, padding: c.padding.0, random: "x", size: 3)
      let w = Grid(1, c.dim, random: "w")
      let y = Grid(unset: c.rows, columns, padding: c.padding.1)
      let inverse = Grid(unset: c.rows, c.groups)
      let same = x.copy
      try withExecutor(Mode(isa: isa, compute: .f32)) { executor in
        RMSNorm.forward(
          x.matrix, weight: w.pointer, dim: c.dim, eps: Self.eps, into: y.matrix,
          inverse: inverse.pointer, on: executor)
        RMSNorm.forward(
          same.matrix, weight: w.pointer, dim: c.dim, eps: Self.eps, into: same.matrix,
          inverse: inverse.pointer, on: executor)
      }
      let scales = Self.scales(x, c)
      // All terms of the mean are positive: its relative error is half lost in the root.
      let relative = Double(c.dim + 8) * roundoff
      expectClose(
        inverse, scales.map { Estimate(value: $0, error: $0 * relative) }, "\(c) inverse")
      let expected = (0..<c.rows * columns).map { at in
        let (row, column) = (at / columns, at % columns)
        let value =
          Double(x[row, column]) * scales[row * c.groups + column / c.dim]
          * Double(w[0, column % c.dim])
        return Estimate(value: value, error: abs(value) * (relative + 4 * roundoff) + 1e-37)
      }
      expectClose(y, expected, "\(c)")
      expectClose(same, expected, "\(c) in place")
    }
  }

  @Test(
    "gradients, added and assigned, with and without the weight's",
    arguments: KernelTable.available.map(\.name))
  func backward(_ isa: String) throws {
    for c in Case.all {
      let columns = c.groups * c.dim
      let x = Grid(c.rows, columns, padding: 3, random: "x", size: 3)
      let w = Grid(1, c.dim, random: "w")
      let dy = Grid(c.rows, columns, padding: 2, random: "dy")
      let scales = Self.scales(x, c)
      let inverse = Grid(c.rows, c.groups) { Float(scales[$0 * c.groups + $1]) }
      let added = Grid(c.rows, columns, padding: 4, random: "dx")
      let start = added.copy
      let assigned = dy.copy
      let dw = Grid(1, c.dim, padding: 8, random: "dw")
      let dwStart = dw.copy
      try withExecutor(Mode(isa: isa, compute: .f32)) { executor in
        RMSNorm.backward(
          dy.matrix, x: x.matrix, weight: w.pointer, dim: c.dim, inverse: inverse.pointer,
          into: added.matrix, dweight: dw.pointer, assign: false, on: executor)
        RMSNorm.backward(
          assigned.matrix, x: x.matrix, weight: w.pointer, dim: c.dim, inverse: inverse.pointer,
          into: assigned.matrix, dweight: nil, assign: true, on: executor)
      }
      var gradient: [Estimate] = []
      var weight = (0..<c.dim).map { _ in ProductSum() }
      for row in 0..<c.rows {
        for column in 0..<columns {
          let group = column / c.dim
          let r = Double(inverse[row, group])
          var mean = 0.0
          var size = 0.0
          for i in 0..<c.dim {
            let product =
              Double(dy[row, group * c.dim + i]) * Double(w[0, i])
              * Double(x[row, group * c.dim + i])
            mean += product / Double(c.dim)
            size += abs(product) / Double(c.dim)
          }
          let (value, direct) = (
            Double(x[row, column]), Double(dy[row, column]) * Double(w[0, column % c.dim])
          )
          let error =
            r
            * (6 * roundoff * abs(direct) + abs(value) * r * r * size * Double(c.dim + 8) * roundoff)
          gradient.append(
            Estimate(value: r * (direct - value * r * r * mean), error: error + 1e-37))
          // Three factors and one scale per row; the sum runs over rows and groups.
          weight[column % c.dim].add(Double(dy[row, column]) * value, r)
        }
      }
      expectClose(assigned, gradient, "\(c) assigned")
      expectClose(
        added,
        gradient.indices.map {
          let before = Double(start[$0 / columns, $0 % columns])
          let sum = gradient[$0].value + before
          return Estimate(
            value: sum, error: gradient[$0].error + 2 * roundoff * (abs(before) + abs(sum)))
        }, "\(c) added")
      expectClose(
        dw, (0..<c.dim).map { weight[$0].estimate(plus: Double(dwStart[0, $0])) }, "\(c) weight")
    }
  }

  @Test("the same bits on 1, 2 and 3 workers", arguments: KernelTable.available.map(\.name))
  func workers(_ isa: String) throws {
    try expectSameBits(Mode(isa: isa, compute: .f32)) { executor in
      let x = Grid(200, 96, random: "x")
      let w = Grid(1, 32, random: "w")
      let y = Grid(unset: 200, 96)
      let inverse = Grid(unset: 200, 3)
      RMSNorm.forward(
        x.matrix, weight: w.pointer, dim: 32, eps: Self.eps, into: y.matrix,
        inverse: inverse.pointer, on: executor)
      let dx = x.copy
      let dw = Grid(1, 32) { _, _ in 0 }
      RMSNorm.backward(
        y.matrix, x: x.matrix, weight: w.pointer, dim: 32, inverse: inverse.pointer,
        into: dx.matrix, dweight: dw.pointer, assign: false, on: executor)
      return [y, inverse, dx, dw].flatMap(\.values)
    }
  }

  private static func scales(_ x: Grid, _ c: Case) -> [Double] {
    (0..<c.rows * c.groups).map { at in
      let (row, group) = (at / c.groups, at % c.groups)
      let squares = (0..<c.dim).reduce(0.0) {
        let value = Double(x[row, group * c.dim + $1])
        return $0 + value * value
      }
      return 1 / (squares / Double(c.dim) + Double(Self.eps)).squareRoot()
    }
  }
}
