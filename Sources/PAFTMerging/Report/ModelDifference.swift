// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
package import PAFTFormats
internal import PAFTKernels

/// How far model b is from model a, tensor by tensor.
package struct ModelDifference: Sendable {
  package struct Tensor: Sendable {
    package let name: String
    package let shape: [Int]
    /// Euclidean norm of b - a.
    package let norm: Double
    let baseNorm: Double
    /// The same over the norm of a; nil when a is zero.
    package var relativeNorm: Double? { baseNorm > 0 ? norm / baseNorm : nil }
    package let maximum: Double
    package let sparsity: SparsityCounts
  }

  package let tensors: [Tensor]
  package let total: Tensor
  /// Tensors only one of the two has.
  package let onlyInA: [String]
  package let onlyInB: [String]

  /// Both may be folders, safetensors files or `folder+adapter`. Chunks are in memory, or one tensor of
  /// each where an adapter changes it. Throws 65 when a tensor differs in shape or is not finite.
  package static func compare(
    a: String, b: String, parallel: @escaping Parallel = serially
  ) throws -> ModelDifference {
    var archives: [String: TensorArchive] = [:]
    let first = try ModelSource(forComparing: a, sharing: &archives)
    let second = try ModelSource(forComparing: b, sharing: &archives)
    let lanes = Lanes(parallel)
    var tensors: [Tensor] = []
    for entry in first.archive.entries {
      guard let other = second.archive[entry.name] else { continue }
      guard other.shape == entry.shape else {
        throw Fault(
          .data,
          "tensor \(quoted(entry.name)) has shape \(entry.shape) in \(a) and \(other.shape) in \(b)"
        )
      }
      guard entry.dtype.isFloat, other.dtype.isFloat else { continue }
      var sum = Part()
      for part in try parts(entry, first, other, second, lanes) { sum.add(part) }
      if let fault = sum.fault { throw fault }
      tensors.append(
        Tensor(
          name: entry.name, shape: entry.shape, norm: sum.squares.squareRoot(),
          baseNorm: sum.baseSquares.squareRoot(), maximum: Double(sum.maximum),
          sparsity: sum.sparsity))
      entry.release()
      other.release()
    }
    return ModelDifference(
      tensors: tensors, total: Self.sum(tensors),
      onlyInA: first.archive.names.filter { second.archive[$0] == nil },
      onlyInB: second.archive.names.filter { first.archive[$0] == nil })
  }

  /// What a chunk of a tensor adds.
  private struct Part {
    var sparsity = SparsityCounts()
    var squares = 0.0
    var baseSquares = 0.0
    var maximum: Float = 0
    /// The first one's.
    var fault: Fault?

    mutating func measure(
      _ delta: UnsafePointer<Float>, of base: UnsafePointer<Float>, _ count: Int, _ lanes: Lanes
    ) {
      squares = sparsity.measure(delta, count, lanes.merging)
      baseSquares = lanes.vectors.dot_f32(base, base, count)
      // Finite by now, so magnitudes order as their bits do, and a maximum of integers becomes vectors.
      var largest: Int32 = 0
      for i in 0..<count {
        largest = max(largest, Int32(bitPattern: delta[i].bitPattern & 0x7FFF_FFFF))
      }
      maximum = Float(bitPattern: UInt32(bitPattern: largest))
    }

    mutating func add(_ other: Part) {
      sparsity.add(other.sparsity)
      squares += other.squares
      baseSquares += other.baseSquares
      maximum = max(maximum, other.maximum)
      fault = fault ?? other.fault
    }
  }

  /// The chunks of a tensor in order.
  private static func parts(
    _ entry: TensorEntry, _ first: ModelSource, _ other: TensorEntry, _ second: ModelSource,
    _ lanes: Lanes
  ) throws(Fault) -> [Part] {
    func room(_ count: Int) -> UnsafeMutablePointer<Float> { .allocate(capacity: max(count, 1)) }
    if first.isPlain(entry.name) && second.isPlain(entry.name) {
      return lanes.collect(entry.count, Part()) { range in
        let (base, delta) = (room(range.count), room(range.count))
        defer {
          base.deallocate()
          delta.deallocate()
        }
        var part = Part()
        let bad =
          first.load(entry, range, into: base, checked: true, lanes)
          ?? second.load(
            other, range, minus: base, of: entry, into: delta, checked: true, lanes)
        part.fault = bad?.fault
        if bad == nil { part.measure(delta, of: base, range.count, lanes) }
        return part
      }
    }
    let (base, delta) = (room(entry.count), room(entry.count))
    defer {
      base.deallocate()
      delta.deallocate()
    }
    try first.load(entry, minus: nil, of: nil, into: base, lanes)
    // The shortcut for shared weights holds only when a carries no adapter of its own.
    try second.load(
      other, minus: base, of: first.adapter == nil ? entry : nil, into: delta, lanes)
    return lanes.collect(entry.count, Part()) { range in
      var part = Part()
      part.measure(delta + range.lowerBound, of: base + range.lowerBound, range.count, lanes)
      return part
    }
  }

  /// The tensors that `isCounted` names, as one.
  package func total(where isCounted: (Tensor) -> Bool) -> Tensor {
    Self.sum(tensors.filter(isCounted))
  }

  private static func sum(_ tensors: [Tensor]) -> Tensor {
    var sparsity = SparsityCounts()
    for tensor in tensors { sparsity.add(tensor.sparsity) }
    func norm(_ part: KeyPath<Tensor, Double>) -> Double {
      tensors.reduce(0) { $0 + $1[keyPath: part] * $1[keyPath: part] }.squareRoot()
    }
    return Tensor(
      name: "all", shape: [sparsity.elements], norm: norm(\.norm), baseNorm: norm(\.baseNorm),
      maximum: tensors.reduce(0) { max($0, $1.maximum) }, sparsity: sparsity)
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
