// SPDX-License-Identifier: Apache-2.0

// The standard library's `withUnsafeBytes` forgets the type of the error its body throws; these
// keep it.

extension Array where Element == UInt8 {
  package func withRawBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let result: Result<R, E> = withUnsafeBytes { buffer in
      do throws(E) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}

extension String {
  package func withRawBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    var text = self
    let result: Result<R, E> = text.withUTF8 { buffer in
      do throws(E) { return .success(try body(UnsafeRawBufferPointer(buffer))) } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
