// SPDX-License-Identifier: Apache-2.0

import CMachine
import Glibc
import PAFTBase

/// A pinned team of libomp workers under one OpenMP root. Worker 0 is the root itself.
///
/// `@unchecked Sendable`: only the root changes anything, between two regions, and `run` and `move`
/// check that their caller is the root.
package final class Team: @unchecked Sendable {
  package private(set) var place: Place
  /// Where worker i runs: the place's CPUs but those left out for now.
  package private(set) var cpus: [Int]
  /// Workers, the root included.
  package private(set) var count: Int
  /// Whether every worker is bound to its CPU; false with PAFT_PIN=0 and in sandboxes that forbid it.
  package private(set) var isPinned: Bool
  private let name: String
  private let pinned: Bool
  private let root: pthread_t
  /// The workers' threads as the kernel numbers them.
  private var threads: [Int32]
  private var crowds = CrowdedCPUs()
  /// What processes other than this team's workers used of the place's CPUs, at the last look.
  private var books: (time: Double, others: [Int: Double])?

  /// Makes the calling thread a root: starts the workers, binds and names them and has them flush
  /// denormals. Always the same root and the same size, so libomp keeps the same hot team.
  init(on place: Place, named name: String, pinned: Bool) throws {
    self.place = place
    self.name = name
    self.pinned = pinned
    cpus = place.cpus
    count = place.count
    root = pthread_self()
    // libomp registers itself in a shared-memory file at its first call, and aborts where it cannot.
    guard access("/dev/shm", W_OK | X_OK) == 0 else {
      throw Fault(
        .unexpected, "/dev/shm, which libomp needs, cannot be written: \(text(ofError: errno))",
        hint: "mount a tmpfs there; a few KiB are enough")
    }
    // On the root before its first region too: libomp gives the root's setting to every worker at
    // each fork, and takes back what a region changed.
    paft_flush_denormals()
    do {
      (isPinned, threads) = try Self.enlist(
        place.cpus, isShared: place.isShared, named: name, pinned: pinned)
    } catch {
      Self.dismiss(workers: place.count)
      throw error
    }
  }

  /// Goes on at a place with more CPUs, the present ones first, with the same root. Results do not
  /// change, for they do not depend on the number of workers. When this throws, the team is as it was.
  package func move(to larger: Place) throws {
    precondition(pthread_equal(root, pthread_self()) != 0, "Team.move off its root thread")
    precondition(
      larger.count >= place.count, "a team of \(place.count) cannot shrink to \(larger.count)")
    try take(larger.cpus, isShared: larger.isShared)
    place = larger
  }

  private func take(_ cpus: [Int], isShared: Bool) throws {
    (isPinned, threads) = try Self.enlist(cpus, isShared: isShared, named: name, pinned: pinned)
    self.cpus = cpus
    count = cpus.count
    books = nil
  }

  /// Goes on with those of the place's CPUs that are not in `crowded`, one at least.
  package func leaveOut(_ crowded: Set<Int>) throws {
    precondition(pthread_equal(root, pthread_self()) != 0, "Team.leaveOut off its root thread")
    let rest = place.cpus.filter { !crowded.contains($0) }
    try take(rest.isEmpty ? [place.cpus[0]] : rest, isShared: place.isShared)
  }

  /// Leaves CPUs that other processes keep busy to them, and takes them back when those are gone.
  /// To be called between two steps: looks twice a second at most. Results do not change, for they do
  /// not depend on the number of workers.
  ///
  /// - Returns: the CPUs that were left and taken back; nil nearly always.
  package func avoidCrowds() throws -> (left: [Int], taken: [Int])? {
    precondition(pthread_equal(root, pthread_self()) != 0, "Team.avoidCrowds off its root thread")
    guard isPinned, place.count > 1, !place.isShared else { return nil }
    var clock = timespec()
    clock_gettime(CLOCK_MONOTONIC, &clock)
    let now = Double(clock.tv_sec) + Double(clock.tv_nsec) * 1e-9
    guard books.map({ now - $0.time >= lookEvery }) ?? true else { return nil }
    let kernel = SchedulerBooks()
    let used = kernel.used()
    // What others used: all that was used, but the worker's part.
    var others: [Int: Double] = [:]
    for cpu in place.cpus {
      guard let seconds = used[cpu] else { return nil }
      others[cpu] = seconds
    }
    for (cpu, thread) in zip(cpus, threads) {
      guard let seconds = kernel.ran(thread: thread) else { return nil }
      others[cpu]! -= seconds
    }
    let before = books
    books = (now, others)
    guard let before else { return nil }
    let out = Set(place.cpus).subtracting(cpus)
    let taken: [Int: Double] = others.reduce(into: [:]) { shares, entry in
      let share = (entry.value - before.others[entry.key]!) / (now - before.time)
      shares[entry.key] = max(0, min(1, share))
    }
    let change = crowds.look(taken, leftOut: out)
    guard !change.isEmpty else { return nil }
    try leaveOut(out.subtracting(change.takeBack).union(change.leave))
    return (change.leave.sorted(), change.takeBack.sorted())
  }

  /// Has every worker of the calling root bind and name itself and flush denormals; returns whether
  /// all are bound, and their threads.
  private static func enlist(_ cpus: [Int], isShared: Bool, named name: String, pinned: Bool) throws
    -> (isPinned: Bool, threads: [Int32])
  {
    if cpus.count > 1 { paft_openmp_spin(isShared ? sharedSpin : dedicatedSpin) }
    var errors = [Int32](repeating: 0, count: cpus.count)
    var threads = errors
    let size = errors.withUnsafeMutableBufferPointer { errors in
      threads.withUnsafeMutableBufferPointer { threads in
        let setUp = Unchecked(
          (errors: errors, threads: threads, cpus: cpus, name: name, pinned: pinned))
        return launch(cpus.count) { worker in
          let (errors, threads, cpus, name, pinned) = setUp.value
          paft_flush_denormals()
          paft_name_thread(Team.threadName(name, worker: worker))
          threads[worker] = paft_thread_number()
          guard pinned else { return }
          var cpu = Int32(cpus[worker])
          errors[worker] = paft_set_affinity(&cpu, 1)
        }
      }
    }
    guard size == cpus.count else {
      throw Fault(
        .unexpected, "the team \"\(name)\" has \(size) workers, asked for \(cpus.count)",
        hint: "look at the limit on threads (ulimit -u, pids.max) and at OMP_ variables")
    }
    if let worker = errors.firstIndex(where: { $0 != 0 && $0 != EPERM && $0 != ENOSYS }) {
      throw Fault(
        .unexpected,
        "cannot bind worker \(worker) of \"\(name)\" to CPU \(cpus[worker]): "
          + text(ofError: errors[worker]),
        hint: "the CPU is offline or not granted to this process; PAFT_PIN=0 leaves workers unbound"
      )
    }
    return (pinned && errors.allSatisfy { $0 == 0 }, threads)
  }

  /// Runs body(worker) on all workers 0..<count and returns when all are done. Allocates nothing.
  /// With one worker it is a plain call. Only the root may call it, and not from inside a region.
  package func run(_ body: (_ worker: Int) -> Void) {
    precondition(pthread_equal(root, pthread_self()) != 0, "Team.run off its root thread")
    if count == 1 { return body(0) }
    let size = launch(count, body)
    precondition(size == count, "Team.run inside a region, or libomp cut the team")
  }

  /// Starts a thread that may run on any of the team's CPUs, for work beside the workers': a new thread
  /// would stay on the root's.
  package func beside(named name: String, _ body: @escaping @Sendable () -> Void) -> Running<Void> {
    let cpus = isPinned ? cpus.map(Int32.init) : []
    return Running(named: name) {
      // Where it is refused, the thread has the root's CPU.
      if !cpus.isEmpty { _ = paft_set_affinity(cpus, Int32(cpus.count)) }
      body()
    }
  }

  /// The root's last region: sends the workers back to libomp's pool, asleep.
  func close() { Self.dismiss(workers: place.count) }

  private static func dismiss(workers: Int) {
    if workers > 1 { paft_dismiss(Int32(workers)) }
  }

  /// "sft" for the root, "sft/3" for the others; Linux keeps 15 bytes, so the name gives way.
  static func threadName(_ name: String, worker: Int) -> String {
    let suffix = worker == 0 ? "" : "/\(worker)"
    return String(decoding: name.utf8.prefix(15 - suffix.utf8.count), as: UTF8.self) + suffix
  }
}

// A waiting worker spins this long before it sleeps. Longer than any serial stretch inside a step,
// so regions start without a system call; not for ever, because libomp's pool would then burn a
// core per worker after its team is gone.
private let dedicatedSpin: Int32 = 200
private let sharedSpin: Int32 = 1

/// Seconds between two looks at who else runs here.
private let lookEvery = 0.5

/// Lets a value into a concurrent closure; the closure's caller waits, so nothing outlives it.
private struct Unchecked<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

/// Starts a region on the calling root's team; returns the size of the team that ran it.
private func launch(_ count: Int, _ body: (Int) -> Void) -> Int {
  // `withoutActuallyEscaping` puts a box on the heap for every call. But a closure argument travels
  // as two words, code and context, in the same registers as a struct of two words: seen as a
  // function of that struct, the C function receives the words and calls them by Swift's convention.
  // The two structs keep the functions as they are; a bare function would be wrapped to be generic.
  let words = LaunchWords(start: { paft_parallel_closure($0, $1) })
  return Int(unsafeBitCast(words, to: LaunchClosure.self).start(Int32(count), body))
}

private struct LaunchWords {
  let start: (Int32, paft_closure) -> Int32
}

private struct LaunchClosure {
  let start: (Int32, (Int) -> Void) -> Int32
}
