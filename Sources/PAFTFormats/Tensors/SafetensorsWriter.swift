// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// What a tensor will be, said before any of its data.
package struct TensorDeclaration: Sendable, Equatable {
  package var name: String
  package var dtype: DType
  package var shape: [Int]

  package init(_ name: String, _ dtype: DType, _ shape: [Int]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
  }
}

/// Streams tensors into a folder: `model.safetensors`, or `model-00001-of-0000N.safetensors` with
/// `model.safetensors.index.json` when they exceed the shard size. All tensors are declared first,
/// so that headers, file names and room on the disk are settled before the data; then data may come
/// in any order, by rows or whole. Costs one conversion buffer of 256 kB, whatever the tensors.
package final class SafetensorsWriter {
  private struct Slot {
    var declaration: TensorDeclaration
    var count: Int
    var shard: Int
    /// Byte in the shard's file.
    var offset: Int
    var written = 0
  }

  private struct Shard {
    var name: String
    var fileBytes: Int
    var header: [UInt8]
    var file: OutputFile?
    /// Tensors not wholly written yet.
    var pending: Int
    /// Left by an earlier writer, and not touched.
    var isKept = false
  }

  private let folder: String
  private let baseName: String
  private let totalBytes: Int
  private var slots: [Slot] = []
  private var shards: [Shard] = []
  private var index: [ByteKey: Int] = [:]
  private let scratch = UnsafeMutableBufferPointer<UInt16>.allocate(capacity: 1 << 17)

  /// Default of transformers' `save_pretrained`, in bytes.
  package static let defaultShardBytes = 5_000_000_000

  /// Called with the name of every file that is whole and durable.
  package var onShard: ((String) throws(Fault) -> Void)?

  /// - Parameters:
  ///   - name: `model` or `adapter_model`.
  ///   - finished: files of these names are in the folder as an earlier writer of the same tensors
  ///     left them, and are kept.
  /// Throws `Fault`: declarations that cannot be stored, or files that cannot be made.
  package init(
    folder: String, name: String = "model", tensors: [TensorDeclaration],
    maximumShardBytes: Int = SafetensorsWriter.defaultShardBytes,
    metadata: [(key: String, value: String)] = [("format", "pt")],
    keeping finished: Set<String> = []
  ) throws(Fault) {
    self.folder = folder
    baseName = name
    // Assign tensors to shards in the order given.
    var shardOf: [Int] = []
    var sizes: [Int] = []
    var shardBytes = 0
    var shardCount = 0
    var total = 0
    for tensor in tensors {
      guard !tensor.shape.contains(where: { $0 < 0 }), let count = product(tensor.shape),
        let bytes = product([count, tensor.dtype.size]),
        !total.addingReportingOverflow(bytes).overflow
      else {
        throw Fault(.data, "tensor \(quoted(tensor.name)): shape \(tensor.shape) is not storable")
      }
      if shardCount == 0 || (shardBytes > 0 && bytes > maximumShardBytes - shardBytes) {
        shardCount += 1
        shardBytes = 0
      }
      shardBytes += bytes
      total += bytes
      shardOf.append(shardCount - 1)
      sizes.append(bytes)
      guard tensor.name != "__metadata__",
        index.updateValue(slots.count, forKey: ByteKey(tensor.name)) == nil
      else { throw Fault(.data, "tensor name \(quoted(tensor.name)) is taken") }
      slots.append(
        Slot(declaration: tensor, count: count, shard: shardCount - 1, offset: 0))
    }
    totalBytes = total
    for shard in 0..<max(shardCount, 1) {
      let members = slots.indices.filter { shardOf[$0] == shard }
      let fileName =
        shardCount <= 1
        ? "\(name).safetensors"
        : "\(name)-\(Self.padded(shard + 1))-of-\(Self.padded(shardCount)).safetensors"
      try layOut(members, sizes, fileName, metadata)
    }
    // An empty tensor list, or an empty tensor, has no data whose arrival would write the file.
    for shard in shards.indices {
      if finished.contains(shards[shard].name),
        try FileSystem.size(folder + "/" + shards[shard].name) == shards[shard].fileBytes
      {
        shards[shard].pending = 0
        shards[shard].isKept = true
        for slot in slots.indices where slots[slot].shard == shard {
          slots[slot].written = slots[slot].count
        }
      } else if shards[shard].pending == 0 {
        try closeShard(shard)
      }
    }
  }

  deinit { scratch.deallocate() }

  /// Wide types first, so that every tensor stands at a multiple of its element size, as readers
  /// that view the file in place need; then those of whole pages, which large files start on a page
  /// and so write past the page cache to the last byte. Ties keep the given order.
  private func layOut(
    _ members: [Int], _ sizes: [Int], _ fileName: String, _ metadata: [(key: String, value: String)]
  ) throws(Fault) {
    let ordered = members.map { slot in
      (-slots[slot].declaration.dtype.size, sizes[slot] % OutputFile.page == 0 ? 0 : 1, slot)
    }.sorted { $0 < $1 }.map(\.2)
    var header = JSONObject()
    if !metadata.isEmpty {
      var pairs = JSONObject()
      for (key, value) in metadata { pairs[key] = .string(value) }
      header["__metadata__"] = .object(pairs)
    }
    var offset = 0
    for slot in ordered {
      let declaration = slots[slot].declaration
      slots[slot].offset = offset
      header[declaration.name] = [
        "dtype": .string(declaration.dtype.rawValue),
        "shape": .array(declaration.shape.map { JSON($0) }),
        "data_offsets": [JSON(offset), JSON(offset + sizes[slot])],
      ]
      offset += sizes[slot]
    }
    var text = Array(JSON.object(header).serialized().utf8)
    let unit = offset >= Self.pagedBytes ? OutputFile.page : 8
    while (8 + text.count) % unit != 0 { text.append(UInt8(ascii: " ")) }
    guard text.count <= SafetensorsHeader.maximumBytes else {
      throw Fault(.data, "\(fileName): header of \(text.count) bytes is above the format's cap")
    }
    let lengthBytes = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    for slot in ordered { slots[slot].offset += 8 + text.count }
    shards.append(
      Shard(
        name: fileName, fileBytes: 8 + text.count + offset, header: lengthBytes + text,
        pending: members.count { slots[$0].count > 0 }))
  }

  /// Files with less data are not worth a page of header.
  private static let pagedBytes = 1 << 20

  // MARK: - Data

  /// Writes the next `count` elements of a tensor, row-major, rounding to the declared type
  /// (f32, bf16 and f16 to nearest even). Asking for an unknown name or more elements than declared
  /// is a programmer's mistake.
  package func append(_ name: String, _ values: UnsafePointer<Float>, count: Int) throws(Fault) {
    let slot = self.slot(name, adding: count)
    let start = slots[slot].offset + slots[slot].written * slots[slot].declaration.dtype.size
    let file = try openShard(slots[slot].shard)
    switch slots[slot].declaration.dtype {
    case .f32:
      try file.write(UnsafeRawBufferPointer(start: values, count: count * 4), at: start)
    case .bf16:
      try writeNarrow(values, count, file, start) { BF16($0).bits }
    case .f16:
      try writeNarrow(values, count, file, start) { halfBits($0) }
    case let other: preconditionFailure("floats for a tensor of type \(other.rawValue)")
    }
    try advance(slot, count)
  }

  package func append(_ name: String, _ values: [Float]) throws(Fault) {
    var failure: Fault?
    values.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      do throws(Fault) { try append(name, base, count: buffer.count) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Writes the next elements as they are, already in the declared type.
  package func append(_ name: String, raw bytes: UnsafeRawBufferPointer) throws(Fault) {
    let size = slots[index[ByteKey(name)]!].declaration.dtype.size
    precondition(bytes.count % size == 0, "part of an element")
    let slot = self.slot(name, adding: bytes.count / size)
    let start = slots[slot].offset + slots[slot].written * size
    try openShard(slots[slot].shard).write(bytes, at: start)
    try advance(slot, bytes.count / size)
  }

  /// Where the data of a tensor goes, for callers that write its parts themselves, in any order and
  /// from several threads; `complete` says that all of it is there.
  package func target(_ name: String) throws(Fault) -> TensorTarget {
    let slot = self.slot(name, adding: 0)
    precondition(slots[slot].written == 0, "\(name) is partly written")
    return TensorTarget(
      file: try openShard(slots[slot].shard), start: slots[slot].offset,
      dtype: slots[slot].declaration.dtype)
  }

  package func complete(_ name: String) throws(Fault) {
    let slot = self.slot(name, adding: 0)
    try advance(slot, slots[slot].count)
  }

  /// Whether a tensor is in a file that an earlier writer left.
  package func isKept(_ name: String) -> Bool {
    shards[slots[slot(name, adding: 0)].shard].isKept
  }

  /// Ends the writing: every tensor must be complete. Writes the index if there are shards.
  package func finish() throws(Fault) {
    for slot in slots {
      precondition(slot.written == slot.count, "tensor \(slot.declaration.name) is incomplete")
    }
    guard shards.count > 1 else { return }
    var map = JSONObject()
    for slot in slots.sorted(by: { $0.declaration.name < $1.declaration.name }) {
      map[slot.declaration.name] = .string(shards[slot.shard].name)
    }
    let index: JSON = [
      "metadata": ["total_size": JSON(totalBytes)], "weight_map": .object(map),
    ]
    try FileSystem.write(
      index.serialized(pretty: true) + "\n", to: folder + "/\(baseName).safetensors.index.json")
  }

  // MARK: - Inside

  private func slot(_ name: String, adding count: Int) -> Int {
    guard let slot = index[ByteKey(name)] else { preconditionFailure("undeclared tensor \(name)") }
    precondition(
      count >= 0 && count <= slots[slot].count - slots[slot].written,
      "more elements of \(name) than declared")
    return slot
  }

  /// Converts and writes in pieces of the scratch buffer.
  private func writeNarrow(
    _ values: UnsafePointer<Float>, _ count: Int, _ file: OutputFile, _ start: Int,
    _ narrow: (Float) -> UInt16
  ) throws(Fault) {
    var done = 0
    while done < count {
      let piece = min(scratch.count, count - done)
      for i in 0..<piece { scratch[i] = narrow(values[done + i]) }
      try file.write(
        UnsafeRawBufferPointer(UnsafeMutableBufferPointer(rebasing: scratch[..<piece])),
        at: start + done * 2)
      done += piece
    }
  }

  private func openShard(_ shard: Int) throws(Fault) -> OutputFile {
    if let file = shards[shard].file { return file }
    let file = try OutputFile(creating: folder + "/" + shards[shard].name)
    try file.reserve(shards[shard].fileBytes)
    try shards[shard].header.withRawBytes { (bytes) throws(Fault) in try file.write(bytes, at: 0) }
    shards[shard].file = file
    return file
  }

  private func advance(_ slot: Int, _ count: Int) throws(Fault) {
    slots[slot].written += count
    guard count > 0, slots[slot].written == slots[slot].count else { return }
    let shard = slots[slot].shard
    shards[shard].pending -= 1
    if shards[shard].pending == 0 { try closeShard(shard) }
  }

  /// A complete shard is made durable and closed at once, so few files are open at a time.
  private func closeShard(_ shard: Int) throws(Fault) {
    try openShard(shard).synchronize()
    shards[shard].file = nil
    try onShard?(shards[shard].name)
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}

/// The place of one tensor in a file that is being written.
package struct TensorTarget: Sendable {
  /// Of memory and file, for writes past the page cache.
  package static let alignment = OutputFile.page

  fileprivate let file: OutputFile
  fileprivate let start: Int
  package let dtype: DType

  /// Byte of an element in the file.
  package func offset(of element: Int) -> Int { start + element * dtype.size }

  /// Rounds floats to the tensor's type (f32, bf16 and f16; to nearest even).
  package func encode(_ values: UnsafePointer<Float>, count: Int, to bytes: UnsafeMutableRawPointer)
  {
    switch dtype {
    case .f32: bytes.copyMemory(from: values, byteCount: count * 4)
    case .bf16:
      for i in 0..<count {
        let raw = values[i].bitPattern
        let rounded = raw &+ 0x7FFF &+ ((raw >> 16) & 1)
        let bits = raw & 0x7FFF_FFFF > 0x7F80_0000 ? raw | 0x40_0000 : rounded
        bytes.storeBytes(
          of: UInt16(truncatingIfNeeded: bits >> 16), toByteOffset: 2 &* i, as: UInt16.self)
      }
    case .f16:
      for i in 0..<count {
        bytes.storeBytes(of: halfBits(values[i]), toByteOffset: 2 &* i, as: UInt16.self)
      }
    case let other: preconditionFailure("floats for a tensor of type \(other.rawValue)")
    }
  }

  /// Writes encoded elements, the first of which is `element`.
  package func write(_ bytes: UnsafeRawBufferPointer, element: Int) throws(Fault) {
    try file.writeThrough(bytes, at: offset(of: element))
  }
}

/// Float to f16 bits, to nearest even; too large becomes infinity.
func halfBits(_ value: Float) -> UInt16 {
  let raw = value.bitPattern
  let sign = UInt16(truncatingIfNeeded: raw >> 16) & 0x8000
  let magnitude = raw & 0x7FFF_FFFF
  if magnitude > 0x7F80_0000 { return sign | 0x7E00 }
  if magnitude >= 0x477F_F000 { return sign | 0x7C00 }
  if magnitude < 0x3880_0000 {
    // Subnormal: units of 2^-24; the product is exact, and rounding is to nearest even.
    let units = (Float(bitPattern: magnitude) * 0x1p24).rounded(.toNearestOrEven)
    return sign | UInt16(units)
  }
  let rebased = magnitude &- (112 << 23)
  return sign | UInt16(truncatingIfNeeded: (rebased &+ 0xFFF &+ ((rebased >> 13) & 1)) >> 13)
}
