// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Starts `body` on a thread of its own; what it returns waits for its end, nil where none could be
/// started. This room makes no threads; whoever has some passes this in.
package typealias Background = (_ body: @escaping @Sendable () -> Void) -> (() -> Void)?

/// Writes that workers hand over and do not wait for: the disk is busy while they compute. A few at a
/// time; who hands over more waits. Without a thread they happen at once.
final class WriteBehind {
  typealias Write = () throws(Fault) -> Void

  /// While one thread, whose write has ended, waits for a worker to leave it a core, the disk has the
  /// writes of the others.
  private static let writers = 4

  private let queue = Queue()
  private let joins: [() -> Void]

  init(_ background: Background?) {
    let queue = queue
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
    // Sendable: everything is read and written under the mutex.
    /// Strips of half a megabyte: while thresholds of the next tensor are sought nothing new comes, and
    /// the disk has these.
    private static let depth = 24

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// Something to write came, or the end: for one thread that waits. Something was written: for those
    /// who hand over. Woken for nothing, a thread would take a worker's core each time.
    private let came = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let went = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var waiting: [Write] = []
    private var writing = 0
    private var isEnded = false
    private var failure: Fault?

    init() {
      mutex.initialize(to: pthread_mutex_t())
      pthread_mutex_init(mutex, nil)
      for condition in [came, went] {
        condition.initialize(to: pthread_cond_t())
        pthread_cond_init(condition, nil)
      }
    }

    deinit {
      for condition in [came, went] {
        pthread_cond_destroy(condition)
        condition.deallocate()
      }
      pthread_mutex_destroy(mutex)
      mutex.deallocate()
    }

    func add(_ write: @escaping Write) throws(Fault) {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      while waiting.count >= Self.depth, failure == nil { pthread_cond_wait(went, mutex) }
      if let failure { throw failure }
      waiting.append(write)
      pthread_cond_signal(came)
    }

    func drain() throws(Fault) {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      while writing > 0 || (!waiting.isEmpty && failure == nil) {
        pthread_cond_wait(went, mutex)
      }
      if let failure { throw failure }
    }

    func end() {
      pthread_mutex_lock(mutex)
      isEnded = true
      pthread_cond_broadcast(came)
      pthread_mutex_unlock(mutex)
    }

    /// A thread's life. After a failure nothing more is written.
    func work() {
      pthread_mutex_lock(mutex)
      while true {
        if failure != nil { waiting.removeAll() }
        if waiting.isEmpty {
          if isEnded { break }
          pthread_cond_wait(came, mutex)
          continue
        }
        let write = waiting.removeFirst()
        writing += 1
        pthread_cond_broadcast(went)
        pthread_mutex_unlock(mutex)
        var found: Fault?
        do throws(Fault) { try write() } catch { found = error }
        pthread_mutex_lock(mutex)
        writing -= 1
        if failure == nil { failure = found }
        pthread_cond_broadcast(went)
      }
      pthread_mutex_unlock(mutex)
    }
  }
}
