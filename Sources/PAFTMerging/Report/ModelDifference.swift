// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
package import PAFTFormats

/// How far model b is from model a, tensor by tensor.
package struct ModelDifference: Sendable {
  package struct Tensor: Sendable {
    package let name: String
    package let shape: [Int]
    /// Euclidean norm of b - a.
    package let norm: Double
    /// The same over the norm of a; nil when a is zero.
    package let relativeNorm: Double?
    package let maximum: Double
    package let sparsity: SparsityCounts
  }

  package let tensors: [Tensor]
  package let total: Tensor
  /// Tensors only one of the two has.
  package let onlyInA: [String]
  package let onlyInB: [String]

  /// Both may be folders, safetensors files or `folder+adapter`; one tensor of each is in memory
  /// at a time. Throws 65 when a tensor differs in shape or is not finite.
  package static func compare(
    a: String, b: String, parallel: @escaping Parallel = serially
  ) throws -> ModelDifference {
    var archives: [String: TensorArchive] = [:]
    let first = try ModelSource(forComparing: a, sharing: &archives)
    let second = try ModelSource(forComparing: b, sharing: &archives)
    let lanes = Lanes(parallel)
    var tensors: [Tensor] = []
    var (squares, baseSquares, maximum, sparsity) = (0.0, 0.0, 0.0, SparsityCounts())
    for entry in first.archive.entries {
      guard let other = second.archive[entry.name] else { continue }
      guard other.shape == entry.shape else {
        throw Fault(
          .data,
          "tensor \(quoted(entry.name)) has shape \(entry.shape) in \(a) and \(other.shape) in \(b)"
        )
      }
      guard entry.dtype.isFloat, other.dtype.isFloat else { continue }
      let count = entry.count
      let base = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
      let delta = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
      defer {
        base.deallocate()
        delta.deallocate()
      }
      try first.load(entry, minus: nil, of: nil, into: base, lanes)
      // The shortcut for shared weights holds only when a carries no adapter of its own.
      try second.load(
        other, minus: base, of: first.adapter == nil ? entry : nil, into: delta, lanes)
      var counts = SparsityCounts()
      counts.add(delta, count, lanes)
      let deltaSquares = lanes.dot(delta, delta, count)
      let ownSquares = lanes.dot(base, base, count)
      let largest = lanes.collect(count, Float(0)) { range in
        range.reduce(Float(0)) { max($0, abs(delta[$1])) }
      }.reduce(0, max)
      tensors.append(
        Tensor(
          name: entry.name, shape: entry.shape, norm: deltaSquares.squareRoot(),
          relativeNorm: ownSquares > 0 ? (deltaSquares / ownSquares).squareRoot() : nil,
          maximum: Double(largest), sparsity: counts))
      squares += deltaSquares
      baseSquares += ownSquares
      maximum = max(maximum, Double(largest))
      sparsity.add(counts)
      entry.release()
      other.release()
    }
    return ModelDifference(
      tensors: tensors,
      total: Tensor(
        name: "all", shape: [sparsity.elements], norm: squares.squareRoot(),
        relativeNorm: baseSquares > 0 ? (squares / baseSquares).squareRoot() : nil,
        maximum: maximum, sparsity: sparsity),
      onlyInA: first.archive.names.filter { second.archive[$0] == nil },
      onlyInB: second.archive.names.filter { first.archive[$0] == nil })
  }

  package var json: JSON {
    [
      "all": total.json, "tensors": .array(tensors.map(\.json)),
      "only_in_a": .array(onlyInA.map { .string($0) }),
      "only_in_b": .array(onlyInB.map { .string($0) }),
    ]
  }
}

extension ModelDifference.Tensor {
  fileprivate var json: JSON {
    [
      "name": .string(name), "shape": .array(shape.map { JSON($0) }), "norm": .number(norm),
      "relative_norm": relativeNorm.map { .number($0) } ?? nil, "max": .number(maximum),
      "sparsity": sparsity.json,
    ]
  }
}
