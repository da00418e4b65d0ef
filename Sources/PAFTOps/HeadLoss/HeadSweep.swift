// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The walk of `HeadLoss` over the vocabulary: flash attention whose keys and values are both W.
///
///     z = x Wᵀ for a tile of the vocabulary;   z_t <- -inf
///     m' = max(m, max z);  e = exp(z - m');  l = l exp(m - m') + sum e
///     sums = sums exp(m - m') + e W
///
/// A worker takes a block of rows down a segment of the vocabulary with a tile of logits of its own:
/// workers share nothing and never wait for each other. Rows are independent, so blocks follow the
/// team; the vocabulary is cut by its size alone, so that few rows too can employ a large team, and
/// its segments are added in order. So a row's bits depend on nothing but the row and the head.
///
/// With 896 inputs and a vocabulary of 151936 in bf16 it reaches 94 % of the tile's peak on one Zen 4
/// core (1024 rows) and 88 to 91 on two (2048); exponentials and their packing take about two parts
/// in a hundred each. Tiles of 256 to 1024 columns and blocks of 192 to 516 rows are within one or
/// two parts of each other: W comes from memory once per block. Lost: logits computed again in a
/// backward walk, 65 % where the head is trained. Exponentials and packing stay two kernels, because
/// packed rows differ from one instruction set to the next.
struct HeadSweep: @unchecked Sendable {
  /// Columns of a tile of logits, the reduced dimension of `e W`: six rows of them stay in L1 from
  /// their maximum to their packing.
  static let tileColumns = 512
  /// Most rows of a block.
  static let blockRows = 384
  /// Most segments of the vocabulary, and the least columns of one.
  static let mostSegments = 8
  static let segmentColumns = 8192
  /// Rows of one walk at most: each has a line of sums per segment.
  static let walkRows = 1024

  let x: PackedRows
  let head: PackedWeight
  let targets: UnsafePointer<Int32>
  /// Of the vocabulary, in tiles.
  let segments: Int
  let blocks: Int
  /// [segments][rows]: (m, l) of the rivals.
  private let states: UnsafeMutablePointer<Float>
  /// [segments][rows]: the largest logit before the target.
  private let before: UnsafeMutablePointer<Float>
  /// [rows]: z of the target.
  private let hit: UnsafeMutablePointer<Float>
  /// [segments] of [rows, D]: sum of e W; the first is the slopes' own memory.
  private let sums: UnsafeMutablePointer<Matrix>?
  /// Where e of all tiles stays, for the gradient of a trained head.
  private let kept: KeptExponentials?
  /// Holds logits; their slopes then multiply e in every gradient.
  private let cap: Softcap?
  /// Each worker's tile of logits, of e as the left operand, a row of W, and slopes where there is a
  /// cap.
  private let buffers: UnsafeMutablePointer<Float>
  private let bufferStride: Int
  /// Where in a worker's buffer a turned panel of W lies, if W is kept in one layout.
  private let turnedAt: Int
  private let workers: Int

  /// Of a tile of the vocabulary reduced over it: one panel.
  static func turnedFloats(_ type: ComputeType, _ tile: Tile, inputs: Int) -> Int {
    let bytes = PackedMatrix.bytes(
      k: tileColumns, n: min(tile.columns, inputs), type: type, tile: tile)
    return (bytes + 255) / 256 * 64
  }

  private var rows: Int { x.m }
  private var vocabulary: Int { head.outputs }
  var tiles: Int { (vocabulary + Self.tileColumns - 1) / Self.tileColumns }
  private static var lineStride: Int { tileColumns + 16 }

  init(
    _ x: PackedRows, _ head: PackedWeight, _ targets: UnsafePointer<Int32>, slopes: Matrix?,
    kept: KeptExponentials? = nil, cap: Softcap? = nil, in scratch: Arena, workers: Int
  ) {
    self.kept = kept
    self.cap = cap
    self.x = x
    self.head = head
    self.targets = targets
    segments = max(1, min(Self.mostSegments, head.outputs / Self.segmentColumns))
    blocks = Self.blocks(panels: x.panels, rows: x.tile.rows, segments: segments, workers: workers)
    states = scratch.allocate(Float.self, count: 2 * segments * x.m)
    before = scratch.allocate(Float.self, count: segments * x.m)
    hit = scratch.allocate(Float.self, count: x.m)
    if let slopes {
      let sums = scratch.allocate(Matrix.self, count: segments)
      sums[0] = slopes
      for segment in 1..<segments {
        sums[segment] = Matrix(in: scratch, rows: x.m, columns: head.inputs)
      }
      self.sums = sums
    } else {
      sums = nil
    }
    let most = (x.panels + blocks - 1) / blocks * x.tile.rows
    let slopeFloats = cap == nil ? 0 : most * Self.lineStride
    turnedAt = most * (Self.lineStride + Self.tileColumns) + head.inputs + slopeFloats
    let turned =
      slopes != nil && head.turns
      ? Self.turnedFloats(x.type, x.tile, inputs: head.inputs) : 0
    let floats = turnedAt + turned
    // Workers keep off each other's pages.
    bufferStride = (floats + 2047) & ~1023
    self.workers = min(workers, blocks * segments)
    buffers = scratch.allocate(Float.self, count: self.workers * bufferStride)
  }

  /// The fewest blocks that leave no worker with more than its share.
  private static func blocks(panels: Int, rows: Int, segments: Int, workers: Int) -> Int {
    let fewest = max(1, (panels * rows + blockRows - 1) / blockRows)
    var (best, cost) = (fewest, Int.max)
    for blocks in fewest...max(fewest, min(panels, fewest + workers)) {
      let items = (blocks * segments + workers - 1) / workers
      let found = items * ((panels + blocks - 1) / blocks)
      if found < cost { (best, cost) = (blocks, found) }
    }
    return best
  }

  func run(on executor: Executor) {
    executor.run { worker in
      guard worker < workers else { return }
      for item in Executor.share(
        of: blocks * segments, worker: worker, workers: workers, grain: 1)
      {
        let panels = Executor.share(
          of: x.panels, worker: item / segments, workers: blocks, grain: 1)
        walk(panels, segment: item % segments, buffers + worker * bufferStride, executor.kernels)
      }
    }
  }

  // MARK: - One block of rows down one segment

  private func walk(
    _ panels: Range<Int>, segment: Int, _ buffer: UnsafeMutablePointer<Float>,
    _ kernels: KernelTable
  ) {
    let x = x.panels(panels)
    let first = panels.lowerBound * x.tile.rows
    let state = states + 2 * (segment * rows + first)
    let before = before + (segment * rows + first)
    let sums = sums?[segment].rows(first..<first + x.m)
    for row in 0..<x.m {
      state[2 * row] = -.infinity
      state[2 * row + 1] = 0
      before[row] = -.infinity
    }
    let most = panels.count * x.tile.rows
    let packed = UnsafeMutableRawPointer(buffer + most * Self.lineStride)
    let slopes = buffer + most * (Self.lineStride + Self.tileColumns)
    let mine = Executor.share(of: tiles, worker: segment, workers: segments, grain: 1)
    for tile in mine {
      let columns =
        tile * Self.tileColumns..<min(vocabulary, (tile + 1) * Self.tileColumns)
      let z = Matrix(buffer, rows: x.m, columns: columns.count, stride: Self.lineStride)
      GEMM.alone(x, head.forward.panels(columns), into: z, kernels)
      let starts = tile == mine.lowerBound
      let e = PackedRows(at: packed, m: x.m, k: columns.count, type: x.type, tile: x.tile)
      for panel in 0..<x.panels {
        for row in panel * x.tile.rows..<min(x.m, (panel + 1) * x.tile.rows) {
          let slope = slopes + row * Self.lineStride
          cap?.apply(z.row(row), slope, columns.count, kernels)
          cut(first + row, z.row(row), columns, state[2 * row], before + row, kernels)
          let shrink = kernels.rows.softmaxOnline_f32(
            z.row(row), columns.count, 1, state + 2 * row)
          if let sums, !starts, shrink != 1 {
            kernels.vectors.scale_f32(sums.row(row), shrink, sums.columns)
          }
          if cap != nil { kernels.vectors.product_f32(z.row(row), slope, columns.count) }
          kept?.store(
            z.row(row), columns.count, shift: state[2 * row], tile: tile, row: first + row, kernels)
        }
        if sums != nil { e.pack(panels: panel..<panel + 1, from: z, transposed: false, kernels) }
      }
      if let sums {
        if let weight = head.backward {
          GEMM.alone(
            e, weight, reduced: columns.lowerBound, into: sums, accumulate: !starts, kernels)
        } else {
          addTurned(e, columns, into: sums, accumulate: !starts, buffer + turnedAt, kernels)
        }
      }
    }
    // Of a segment before the target's, every logit lies before it.
    let end = min(vocabulary, mine.upperBound * Self.tileColumns)
    for row in 0..<x.m where Int(targets[first + row]) >= end { before[row] = state[2 * row] }
  }

  /// sums (+)= e W of a tile where W is kept in the layout for logits alone: a panel of it at a time is
  /// turned, 64 KiB in bf16, and meets all rows of the block.
  @inline(__always)
  private func addTurned(
    _ e: PackedRows, _ columns: Range<Int>, into sums: Matrix, accumulate: Bool,
    _ room: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    precondition(head.turns, "the head was packed for the forward pass only")
    let (tile, source) = (head.forward.tile, head.forward.panels(columns))
    for first in stride(from: 0, to: head.inputs, by: tile.columns) {
      let range = first..<min(first + tile.columns, head.inputs)
      let panel = PackedMatrix(
        at: UnsafeMutableRawPointer(room), k: columns.count, n: range.count, type: x.type,
        tile: tile)
      panel.turn(from: source, at: first, kernels)
      GEMM.alone(e, panel, into: sums.columns(range), accumulate: accumulate, kernels)
    }
  }

  /// Takes the target's logit out of a row of this tile, if it is there.
  @inline(__always)
  private func cut(
    _ row: Int, _ line: UnsafeMutablePointer<Float>, _ columns: Range<Int>, _ maximum: Float,
    _ before: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    let target = Int(targets[row])
    guard columns.contains(target) else { return }
    let at = target - columns.lowerBound
    hit[row] = line[at]
    before.pointee =
      at == 0 ? maximum : max(maximum, line[kernels.rows.argmax_f32(line, at)])
    line[at] = -.infinity
  }

  // MARK: - All segments together

  func finish(_ result: HeadLoss.Rows, on executor: Executor) {
    executor.run { worker in
      guard worker < workers else { return }
      let weight = buffers + worker * bufferStride
      for row in Executor.share(of: rows, worker: worker, workers: workers, grain: 16) {
        finish(row, result, weight, executor.kernels)
      }
    }
  }

  private func finish(
    _ row: Int, _ result: HeadLoss.Rows, _ weight: UnsafeMutablePointer<Float>,
    _ kernels: KernelTable
  ) {
    var maximum = -Float.infinity
    var earlier = -Float.infinity
    for segment in 0..<segments {
      maximum = max(maximum, states[2 * (segment * rows + row)])
      earlier = max(earlier, before[segment * rows + row])
    }
    var rivals = 0.0
    for segment in 0..<segments {
      let state = states + 2 * (segment * rows + row)
      // A vocabulary of one has no rivals, and a segment may hold the target alone.
      if state[0] != -.infinity || state[1] != 0 {
        rivals += Double(state[1]) * exp(Double(state[0]) - Double(maximum))
      }
    }
    let target = Double(hit[row])
    let gap = Double(maximum) + log(rivals) - target
    let surprise = gap > 0 ? gap + log1p(exp(-gap)) : log1p(exp(gap))
    result.logp[row] = Float(-surprise)
    result.lse[row] = Float(target + surprise)
    result.correct[row] = hit[row] > earlier && hit[row] >= maximum ? 1 : 0

    guard let sums else { return }
    let slope = sums[0].row(row)
    let missed = 1 / (1 + exp(-gap))
    for segment in 0..<segments {
      let shrink = exp(Double(states[2 * (segment * rows + row)]) - Double(maximum))
      let factor = rivals == 0 ? 0 : Float(-missed * shrink / rivals)
      if segment == 0 {
        kernels.vectors.scale_f32(slope, factor, head.inputs)
      } else {
        kernels.vectors.axpy_f32(slope, sums[segment].row(row), factor, head.inputs)
      }
    }
    if let rows = head.backward {
      rows.row(Int(targets[row]), into: weight)
    } else {
      head.forward.column(Int(targets[row]), into: weight)
    }
    let steep = cap.map { $0.slope(at: hit[row]) } ?? 1
    kernels.vectors.axpy_f32(slope, weight, Float(missed) * steep, head.inputs)
  }
}
