// SPDX-License-Identifier: Apache-2.0

internal import PAFTFormats
internal import Synchronization

/// Buffers for encoded strips: as many as are filled and written at once. They lie side by side on huge
/// pages, whose parts the kernel need not look up one by one when the disk takes them.
final class EncodingPool: Sendable {
  final class Buffer: @unchecked Sendable {
    // Sendable: of one worker at a time.
    private let slab: HugePages
    private let memory: UnsafeMutableRawPointer
    fileprivate(set) var start: UnsafeMutableRawPointer

    fileprivate init(_ slab: HugePages, _ offset: Int) {
      self.slab = slab
      memory = slab.start + offset
      start = memory
    }

    /// Stands to a page as the place in the file does, so that whole pages go to the disk as they are.
    fileprivate func align(to offset: Int) { start = memory + offset % TensorTarget.alignment }
  }

  private let free = Mutex<[Buffer]>([])
  private let stride: Int

  /// - Parameter bytes: of a strip at most.
  init(bytes: Int) {
    let page = TensorTarget.alignment
    stride = (bytes + 2 * page - 1) / page * page
  }

  func take(_ target: TensorTarget, at element: Int) -> Buffer {
    let buffer = free.withLock { $0.popLast() ?? more(&$0) }
    buffer.align(to: target.offset(of: element))
    return buffer
  }

  func give(_ buffer: Buffer) { free.withLock { $0.append(buffer) } }

  private func more(_ free: inout [Buffer]) -> Buffer {
    // Strips of half a megabyte or one, each with a page more: seven leave at most an eighth of their
    // huge pages empty, one alone up to half.
    let slab = HugePages(7 * stride)
    for n in 1..<slab.bytes / stride { free.append(Buffer(slab, n * stride)) }
    return Buffer(slab, 0)
  }
}
