// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Starts `body` on a thread of its own; what it returns waits for its end, nil where none could be
/// started. This room makes no threads; whoever has some passes this in.
package typealias Background = (_ body: @escaping @Sendable () -> Void) -> (() -> Void)?

/// Writes that workers hand over and do not wait for: the disk is busy while they compute. A few at a
/// time; who hands over more waits. Without a thread they happen at once.
final class WriteBehind {
  typealias Write = () throws(Fault) -> Void

  /// While one thread, whose write has ended, waits for a worker to leave it a core, the disk has the
  /// writes of the others.
  static let writers = 4

  /// While thresholds of the next tensor are sought nothing new comes, and the disk has these.
  static let waitingBytes = 12 << 20

  private let queue: Queue
  private let joins: [() -> Void]

  /// - Parameter bytes: of a write at most.
  init(_ background: Background?, bytes: Int) {
    let queue = Queue(depth: max(Self.writers, Self.waitingBytes / bytes))
    self.queue = queue
    joins = (0..<Self.writers).compactMap { _ in background.flatMap { $0 { queue.work() } } }
  }

  deinit {
    queue.end()
    for join in joins { join() }
  }

  /// From any worker. Throws what went wrong with an earlier write.
  func add(_ write: @escaping Write) throws(Fault) {
    if joins.isEmpty { try write() } else { try queue.add(write) }
  }

  /// Waits for what was added. Throws what went wrong with any of it.
  func drain() throws(Fault) { try queue.drain() }

  private final class Queue: @unchecked Sendable {
    // Sendable: everything is read and written under the monitor.
    private let depth: Int
    private let monitor = Monitor(conditions: 2)
    /// Something to write came, or the end: for one thread that waits. Something was written: for those
    /// who hand over. Woken for nothing, a thread would take a worker's core each time.
    private let (came, went) = (0, 1)
    private var waiting: [Write] = []
    private var writing = 0
    private var isEnded = false
    private var failure: Fault?

    init(depth: Int) { self.depth = depth }

    func add(_ write: @escaping Write) throws(Fault) {
      monitor.lock()
      defer { monitor.unlock() }
      while waiting.count >= depth, failure == nil { monitor.wait(went) }
      if let failure { throw failure }
      waiting.append(write)
      monitor.signal(came)
    }

    func drain() throws(Fault) {
      monitor.lock()
      defer { monitor.unlock() }
      while writing > 0 || (!waiting.isEmpty && failure == nil) {
        monitor.wait(went)
      }
      if let failure { throw failure }
    }

    func end() {
      monitor.lock()
      isEnded = true
      monitor.broadcast(came)
      monitor.unlock()
    }

    /// A thread's life. After a failure nothing more is written.
    func work() {
      monitor.lock()
      while true {
        if failure != nil { waiting.removeAll() }
        if waiting.isEmpty {
          if isEnded { break }
          monitor.wait(came)
          continue
        }
        let write = waiting.removeFirst()
        writing += 1
        monitor.broadcast(went)
        monitor.unlock()
        var found: Fault?
        do throws(Fault) { try write() } catch { found = error }
        monitor.lock()
        writing -= 1
        if failure == nil { failure = found }
        monitor.broadcast(went)
      }
      monitor.unlock()
    }
  }
}
