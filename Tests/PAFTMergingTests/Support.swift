// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
import PAFTBase
import PAFTMerging
import Testing

/// Runs a method on vectors given in place; returns base + delta for methods on deltas.
func merge(
  _ name: String, _ models: [[Float]], shape: [Int]? = nil, base: [Float]? = nil,
  each: [[String: Double]] = [], _ shared: [String: Double] = [:],
  random: CounterRandom = CounterRandom(seed: 0), lanes: Lanes = Lanes()
) throws -> [Float] {
  let method = try #require(MergeMethod.named(name))
  let count = models[0].count
  func values(_ given: [String: Double], perModel: Bool) throws -> ParameterValues {
    var values = ParameterValues()
    for parameter in method.parameters where parameter.perModel == perModel {
      values[parameter.name] = try #require(
        given[parameter.name] ?? parameter.defaultValue, "\(name) needs \(parameter.name)")
    }
    return values
  }
  var pointers: [UnsafeMutablePointer<Float>] = []
  for model in models {
    let pointer = UnsafeMutablePointer<Float>.allocate(capacity: count)
    pointer.initialize(from: model, count: count)
    pointers.append(pointer)
  }
  defer { for pointer in pointers { pointer.deallocate() } }
  let baseCopy = UnsafeMutablePointer<Float>.allocate(capacity: count)
  defer { baseCopy.deallocate() }
  baseCopy.initialize(from: base ?? [Float](repeating: 0, count: count), count: count)
  if let base {
    for pointer in pointers { for i in 0..<count { pointer[i] -= base[i] } }
  }
  // Poison: a method must write every element.
  let out = UnsafeMutablePointer<Float>.allocate(capacity: count)
  defer { out.deallocate() }
  out.initialize(repeating: .nan, count: count)
  try method.merge(
    MergeTask(
      name: "t", shape: shape ?? [count], count: count, base: UnsafePointer(baseCopy),
      models: pointers, out: out,
      modelParameters: try models.indices.map {
        try values(each.indices.contains($0) ? each[$0] : [:], perModel: true)
      },
      parameters: try values(shared, perModel: false), random: random, lanes: lanes))
  return (0..<count).map { out[$0] + (base?[$0] ?? 0) }
}

func weights(_ values: Double..., density: Double? = nil) -> [[String: Double]] {
  values.map { value in
    var set = ["weight": value]
    set["density"] = density
    return set
  }
}

func expectClose(
  _ found: [Float], _ expected: [Double], tolerance: Double = 1e-6,
  _ location: SourceLocation = #_sourceLocation
) {
  #expect(found.count == expected.count, sourceLocation: location)
  let worst = zip(found, expected).map { abs(Double($0) - $1) / max(1, abs($1)) }.max() ?? 0
  #expect(
    worst <= tolerance && !worst.isNaN, "found \(found), expected \(expected)",
    sourceLocation: location)
}

func values(_ count: Int, seed: UInt64, scale: Float = 1) -> [Float] {
  let random = CounterRandom(seed: seed)
  return (0..<count).map { Float(random.uniform(UInt64($0)) * 2 - 1) * scale }
}

/// Real threads, in an order nobody planned.
func threaded(_ count: Int, _ body: (Int) -> Void) {
  withoutActuallyEscaping(body) { body in
    nonisolated(unsafe) let body = body
    DispatchQueue.concurrentPerform(iterations: count) { body($0) }
  }
}

/// A thread for work beside the workers'. It lets go of `body` before it says that it is done: what is
/// told not to escape must not be held by a thread that is on its way out.
func onThread(_ body: @escaping @Sendable () -> Void) -> () -> Void {
  let done = DispatchSemaphore(value: 0)
  let work = Once(body)
  Thread.detachNewThread {
    work.run()
    done.signal()
  }
  return { done.wait() }
}

/// A closure that is called once and then gone. Of one thread after another.
private final class Once: @unchecked Sendable {
  private var body: (@Sendable () -> Void)?

  init(_ body: @escaping @Sendable () -> Void) { self.body = body }

  func run() {
    body?()
    body = nil
  }
}
