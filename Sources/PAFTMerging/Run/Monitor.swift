// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A mutex and what threads that hold it wait for: one condition or a few.
final class Monitor: @unchecked Sendable {
  // Sendable: both kinds of objects are made to be shared.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let conditions: [UnsafeMutablePointer<pthread_cond_t>]

  init(conditions count: Int = 1) {
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    conditions = (0..<count).map { _ in
      let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
      condition.initialize(to: pthread_cond_t())
      pthread_cond_init(condition, nil)
      return condition
    }
  }

  deinit {
    for condition in conditions {
      pthread_cond_destroy(condition)
      condition.deallocate()
    }
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  func lock() { pthread_mutex_lock(mutex) }
  func unlock() { pthread_mutex_unlock(mutex) }
  /// Unlocks, sleeps until the condition is called, perhaps for nothing, and locks again.
  func wait(_ condition: Int = 0) { pthread_cond_wait(conditions[condition], mutex) }
  func signal(_ condition: Int = 0) { pthread_cond_signal(conditions[condition]) }
  func broadcast(_ condition: Int = 0) { pthread_cond_broadcast(conditions[condition]) }
}
