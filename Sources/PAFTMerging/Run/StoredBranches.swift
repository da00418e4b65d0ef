// SPDX-License-Identifier: Apache-2.0

internal import PAFTKernels

/// Two BF16 branches of a BF16 base as their files hold them, from one element on: what kernels take
/// without a way by Floats.
struct StoredBranches {
  let x: UnsafePointer<UInt16>
  let y: UnsafePointer<UInt16>
  let base: UnsafePointer<UInt16>

  /// By the number of the model.
  subscript(model: Int) -> UnsafePointer<UInt16> { model == 0 ? x : y }

  func from(_ element: Int) -> Self {
    Self(x: x + element, y: y + element, base: base + element)
  }

  /// Reads the first and the last value of each range, for nothing but to have them near.
  /// - Parameter sum: a place of no other use.
  func touch(_ ranges: ArraySlice<Range<Int>>, _ sum: UnsafeMutablePointer<Float>) {
    var bits: UInt32 = 0
    for range in ranges {
      for place in [x, y, base] {
        bits &+= UInt32(place[range.lowerBound]) &+ UInt32(place[range.upperBound - 1])
      }
    }
    sum[0] = Float(bitPattern: bits)
  }

  /// Fills a part of a block's models with what starts here.
  func load(_ block: TensorBlock, at place: Int, _ count: Int, _ kernels: MergingKernels) {
    for (model, delta) in block.models.enumerated() {
      kernels.difference_bf16(delta + place, self[model], base, count)
    }
  }
}

/// A block of them.
struct StoredBlock {
  /// Elements of the tensor; the branches stand at the first of them.
  let range: Range<Int>
  /// Number of the block in the tensor.
  let number: Int
  let branches: StoredBranches

  var count: Int { range.count }
}

/// What a method of two branches and agreeing signs comes down to (`agree_bf16`): each branch's weight,
/// vote and factor, and which of its entries count.
struct SignAgreement {
  let weights: [Float]
  let votes: [Float]
  let factors: [Float]
  /// What random thinning keeps of either.
  let drawn: (x: DrawnBits, y: DrawnBits)?
  let normalize: Int
  let lambda: Float
  /// By the number of a block, the magnitudes below which entries count as zeros; nil where that does not
  /// tell all, and the block must be merged as floats.
  let floors: (_ block: Int) -> [Float]?

  /// Base and merged delta to `result`; how many entries are beyond the limit or NaN. Nil, and nothing
  /// done, where floors do not tell all.
  func merge(
    _ block: StoredBlock, to result: UnsafeMutablePointer<UInt16>, limit: Float,
    squares: inout Double, _ kernels: MergingKernels
  ) -> Int? {
    guard let floors = floors(block.number) else { return nil }
    let (branches, start) = (block.branches, block.range.lowerBound)
    return kernels.agree_bf16(
      result, branches.x, branches.y, branches.base, weights, votes, floors, factors,
      drawn.map { UnsafePointer($0.x.place(start)) },
      drawn.map { UnsafePointer($0.y.place(start)) }, normalize, lambda, limit, &squares,
      block.count)
  }
}
