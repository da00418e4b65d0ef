// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTModels

/// Trains jobs, each on its place, at the same time or one after the other.
struct TrainingStage {
  let preparation: Preparation
  let observer: RunObserver
  let resume: Bool

  /// Outcomes in the order of `jobs`. When one job fails, the others end at their next step with a
  /// checkpoint, and the failure is thrown.
  func run(_ jobs: [BranchJob], on places: [Place], bases: [BaseModel], atOnce: Bool) throws
    -> [BranchOutcome]
  {
    let stop = RunStopper(observer)
    let cores = atOnce ? CoreExchange() : nil
    func start(_ index: Int) -> Running<BranchOutcome> {
      jobs[index].start(
        base: bases[index], on: places[index], preparation.kernels, preparation.recipe.dtype,
        resume: resume, observer: observer, stop: stop, cores: cores)
    }
    defer { Machine.trimHeap() }
    guard atOnce else {
      return try jobs.indices.map {
        defer { Machine.trimHeap() }
        return try start($0).wait()
      }
    }
    let running = jobs.indices.map(start)
    let results = running.map { branch in Result { try branch.wait() } }
    let failures = results.compactMap { result -> (any Error)? in
      if case .failure(let error) = result { error } else { nil }
    }
    // The branch that was only stopped because of the other one is not the cause.
    if let cause = failures.first(where: { !Self.isStop($0) }) ?? failures.first { throw cause }
    return try results.map { try $0.get() }
  }

  private static func isStop(_ error: any Error) -> Bool {
    let code = (error as? any Diagnosable)?.exitCode
    return code == .terminated || code == .interrupted
  }
}
