// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// C[m, n] = alpha * A[m, k] B[k, n] + D, blocked for the caches and split over the team.
///
/// Blocking, the same in every worker's part: a panel of B goes through k in slices that lie in L2
/// (64 columns x 8 KiB = 512 KiB in BF16, 256 KiB in Float), while a block of A panels passes by; they
/// come from L2 or L3 at one byte a cycle, and the tile reads B from L2 at 11, a third of what Zen 4
/// delivers. While a panel of B is in use, its tiles prefetch the next one, and the first panel's
/// tiles prefetch the next A panel: a weight that does not fit L3 would else arrive at the pace of
/// memory during each panel's first tile. With few rows (decoding) there is no such time and memory is
/// the limit: GEMM+FewRows.swift.
///
/// Zen 4, one core, A and B packed before, percent of peak, BF16 (forward and input gradient):
///                                  1024x896x896  1024x4864x896  1024x896x4864  512x4096x4096
///   1024 of k, no prefetch             97, 97        96, 97         98, 98         96, 96
///   1024 of k                          99, 99        98, 98         98, 98         92...96
///   4096 of k, 768 KiB of A            99, 99        99, 98         98, 98         97, 97
///   4096 of k, 1536 KiB of A           99, 99        99, 99         99, 99         99, 98
///   8192 of k, 1024 KiB of A           99, 99        99, 98         99, 99         97, 97
/// (rows of A follow the caches, `Blocking`; the slices of k do not: they are in the results' bits).
/// Float gains the same up to 1024 of k (98, 98...99, 98); 2048 lose two percent at k = 4096.
///
/// Every element of C sums its slices in the same order whatever the split, so the result does not
/// depend on the number of workers, nor on which other rows are in the batch.
package enum GEMM {
  /// What the product is added to.
  package enum Addend {
    case nothing
    /// C itself.
    case target
    /// One row (a bias) to all rows.
    case row(UnsafePointer<Float>)
    /// Another matrix of C's size (a residual stream).
    case matrix(Matrix)
  }

  /// A second product into the same C: + alpha A B, of an A[m, k'] and a B[k', n] packed for the same
  /// tile. A part of C gets it while it still lies in the second-level cache: for an adapter of rank
  /// 16 reading and writing C takes longer than its arithmetic (512x4864x16, one core, BF16: 35 % of
  /// peak as a product of its own).
  package struct Tail {
    let a: PackedRows
    let b: PackedMatrix
    let alpha: Float

    package init(_ a: PackedRows, _ b: PackedMatrix, alpha: Float = 1) {
      self.a = a
      self.b = b
      self.alpha = alpha
    }

    /// Of some columns of C, from a panel's first on.
    func columns(_ range: Range<Int>) -> Tail { Tail(a, b.panels(range), alpha: alpha) }

    /// Alone, added to what another product has left in C.
    func product(into c: Matrix) -> Product {
      Product(a: a, b: b, reduced: 0, c: c, alpha: alpha, addend: .target)
    }
  }

  static func slice(_ type: ComputeType) -> Int { type == .bf16 ? 4096 : 1024 }

  /// `reduced`: where in B's reduced dimension A's begins (even in bf16); A may cover a part of it.
  package static func multiply(
    _ a: PackedRows, _ b: PackedMatrix, reduced: Int = 0, into c: Matrix, alpha: Float = 1,
    accumulate: Bool, tail: Tail? = nil, on executor: Executor
  ) {
    multiply(
      a, b, reduced: reduced, into: c, alpha: alpha, adding: accumulate ? .target : .nothing,
      tail: tail, on: executor)
  }

  package static func multiply(
    _ a: PackedRows, _ b: PackedMatrix, reduced: Int = 0, into c: Matrix, alpha: Float = 1,
    adding addend: Addend = .nothing, tail: Tail? = nil, on executor: Executor
  ) {
    precondition(
      reduced + a.k <= b.k && a.type == b.type && c.rows == a.m && c.columns == b.n,
      "gemm: A \(a.m)x\(a.k), B \(b.k)x\(b.n) from \(reduced), C \(c.rows)x\(c.columns)")
    if a.m == 0 || b.n == 0 { return }
    if let tail {
      precondition(
        tail.a.k == tail.b.k && tail.a.m == a.m && tail.b.n == b.n && tail.a.type == a.type
          && tail.b.type == a.type,
        "gemm: a tail of A \(tail.a.m)x\(tail.a.k), B \(tail.b.k)x\(tail.b.n) for \(a.m)x\(b.n)")
    }
    let product = Product(
      a: a, b: b, reduced: reduced, c: c, alpha: alpha, addend: addend, tail: tail)
    let grid =
      Grid.ofFewRows(a, b, workers: executor.workers) ?? Grid(a, b, workers: executor.workers)
    if grid.workers == 1 {
      return product.run(0..<a.panels, 0..<b.panels, executor.kernels)
    }
    executor.run { worker in
      guard worker < grid.workers else { return }
      product.run(
        grid.rows(of: a.panels, worker), grid.columns(of: b.panels, worker), executor.kernels)
    }
  }

  /// The product as one worker's own work, inside a parallel region.
  static func alone(
    _ a: PackedRows, _ b: PackedMatrix, reduced: Int = 0, into c: Matrix, accumulate: Bool = false,
    _ kernels: KernelTable
  ) {
    if a.m == 0 || b.n == 0 { return }
    Product(
      a: a, b: b, reduced: reduced, c: c, alpha: 1, addend: accumulate ? .target : .nothing
    ).run(0..<a.panels, 0..<b.panels, kernels)
  }

  /// Workers side by side: `rows` ranges of A panels times `columns` ranges of B panels.
  struct Grid {
    private(set) var rows = 1
    private(set) var columns = 1
    var workers: Int { rows * columns }

    /// What a worker has of `count` rows, and of columns, cut at multiples of `grain`.
    func rows(of count: Int, grain: Int = 1, _ worker: Int) -> Range<Int> {
      Executor.share(of: count, worker: worker / columns, workers: rows, grain: grain)
    }
    func columns(of count: Int, grain: Int = 1, _ worker: Int) -> Range<Int> {
      Executor.share(of: count, worker: worker % columns, workers: columns, grain: grain)
    }

    /// Ranges of B panels only.
    init(columns: Int) { self.columns = columns }

    /// Of operands that all workers have packed together.
    ///
    /// Rows first: a worker has just packed these rows of A, and another's would come line by line out
    /// of that one's caches (two cores, BF16, forward with packing: 1024x128x896 52...85 % of peak by
    /// columns, 91 by rows; 1024x896x896 89, 97). Columns only where they are more even by a part in
    /// 64: of 22 x 14 panels whose last row panel is a third full two workers would get 66 : 62 by rows.
    init(_ a: PackedRows, _ b: PackedMatrix, workers: Int) {
      self.init(m: a.m, n: b.n, a.tile, workers: workers, margin: 64) { $0 * $1 }
    }

    /// The first of those, from one range of columns to many, that costs least for the worker with the
    /// largest share: `cost` of its rows and columns. A later one must be better by a part in `margin`.
    init(
      m: Int, n: Int, _ tile: Tile, workers: Int, margin: Int = .max,
      cost: (_ rows: Int, _ columns: Int) -> Int
    ) {
      if workers == 1 { return }
      var least = Int.max
      let panels = (m + tile.rows - 1) / tile.rows
      for rows in stride(from: min(workers, panels), through: 1, by: -1) {
        let columns = min(workers / rows, (n + tile.columns - 1) / tile.columns)
        let found = cost(
          Self.largest(m, rows, panel: tile.rows), Self.largest(n, columns, panel: tile.columns))
        if least == Int.max || found < least - least / margin {
          least = found
          (self.rows, self.columns) = (rows, columns)
        }
      }
    }

    /// The largest of `parts` shares of `count`, in panels.
    static func largest(_ count: Int, _ parts: Int, panel: Int) -> Int {
      (0..<parts).reduce(0) { largest, part in
        max(
          largest,
          Executor.share(of: count, worker: part, workers: parts, grain: panel).count)
      }
    }
  }

  /// What all workers share.
  struct Product {
    let a: PackedRows
    let b: PackedMatrix
    let reduced: Int
    let c: Matrix
    let alpha: Float
    let addend: Addend
    var tail: Tail?

    /// The second product alone, added to what the first has left.
    var ending: Product? { tail?.product(into: c) }

    /// One worker's part: `aPanels` x `bPanels` of C.
    @inline(__always)
    func run(_ aPanels: Range<Int>, _ bPanels: Range<Int>, _ kernels: KernelTable) {
      let slice = slice(a.type)
      if aPanels.count <= fewPanels {
        runFewRows(aPanels, bPanels, kernels)
        if let ending { ending.runFewRows(aPanels, bPanels, kernels) }
        return
      }
      let ending = ending
      let deepest = max(1, min(slice, a.k) * a.type.size)
      let block = max(1, Blocking.here.rows(of: deepest) / a.tile.rows)
      var k0 = 0
      repeat {
        let depth = min(slice, a.k - k0)
        var first = aPanels.lowerBound
        while first < aPanels.upperBound {
          let last = min(first + block, aPanels.upperBound)
          for panel in bPanels {
            let wanted: Wanted =
              panel == bPanels.lowerBound
              ? .nextRows : panel + 1 < bPanels.upperBound ? .nextColumns : .nothing
            strip(first..<last, panel, k0, depth, wanted, kernels)
            if let ending, k0 + depth == a.k {
              ending.strip(first..<last, panel, 0, ending.a.k, .nothing, kernels)
            }
          }
          first = last
        }
        k0 += depth
      } while k0 < a.k
    }

    /// What a strip's tiles ask for beside their work: the part of B they read themselves, the next
    /// A panel, the same slice of the next B panel, or so many lines from an address on, which moves on
    /// by a step from one A panel to the next.
    enum Wanted {
      case nothing, itself, nextRows, nextColumns
      case parts(UnsafeRawPointer, step: Int, lines: Int)
    }

    /// A block of A panels against one panel of B.
    @inline(__always)
    func strip(
      _ rows: Range<Int>, _ panel: Int, _ k0: Int, _ depth: Int, _ wanted: Wanted,
      _ kernels: KernelTable
    ) {
      let (row, column) = (rows.lowerBound * a.tile.rows, panel * b.tile.columns)
      let target = c.row(row) + column
      let pa = a.address(panel: rows.lowerBound, from: k0)
      let pb = b.address(panel: panel, from: reduced + k0)
      let count = min(c.rows, rows.upperBound * a.tile.rows) - row
      let stride = a.tile.padded(a.k) * a.tile.rows
      let columns = b.columns(of: panel)
      let panelBytes = depth * b.tile.width(columns) * b.type.size
      var (ahead, aheadStep, lines) = (UnsafeRawPointer(pb), 0, 0)
      switch wanted {
      case .nothing: break
      case .parts(let from, let step, let count): (ahead, aheadStep, lines) = (from, step, count)
      case .itself:
        ahead += GEMM.aheadBytes
        // As many as the loop takes: there are few rows.
        lines = panelBytes / lineBytes * a.tile.rows
      case .nextRows:
        aheadStep = stride * a.type.size
        ahead = UnsafeRawPointer(pa) + aheadStep
        lines = depth * a.tile.rows * a.type.size / lineBytes
      case .nextColumns:
        lines = (panelBytes * a.tile.rows / count + lineBytes - 1) / lineBytes
        aheadStep = lines * lineBytes
        ahead = UnsafeRawPointer(b.address(panel: panel + 1, from: reduced + k0))
      }
      let (base, ldBase) = base(row, column, k0)
      if a.type == .f32 {
        kernels.gemm.strip_f32(
          pa.assumingMemoryBound(to: Float.self), stride, pb.assumingMemoryBound(to: Float.self),
          target, depth, c.stride, count, columns, alpha, base, ldBase, ahead, aheadStep, lines)
      } else {
        kernels.gemm.strip_bf16(
          pa.assumingMemoryBound(to: UInt16.self), stride, pb.assumingMemoryBound(to: UInt16.self),
          target, depth, c.stride, count, columns, alpha, base, ldBase, ahead, aheadStep, lines)
      }
    }

    /// What the slice from `k0` on is added to, at C[row, column]: C itself after the first.
    @inline(__always)
    func base(_ row: Int, _ column: Int, _ k0: Int) -> (UnsafePointer<Float>?, Int) {
      let target = (UnsafePointer(c.row(row) + column), c.stride)
      if k0 > 0 { return target }
      switch addend {
      case .nothing: return (nil, c.stride)
      case .target: return target
      case .row(let bias): return (bias + column, 0)
      case .matrix(let other): return (UnsafePointer(other.row(row) + column), other.stride)
      }
    }
  }

  static let lineBytes = 64
}
