// SPDX-License-Identifier: Apache-2.0

/// The members of a JSON object in file order. Keys are compared byte for byte, so a vocabulary may
/// hold both spellings of an accented letter. Small objects are searched in line, which beats
/// hashing there; larger ones carry an index.
package struct JSONObject: Sendable {
  package private(set) var keys: [String] = []
  package private(set) var values: [JSON] = []
  private var index: [ByteKey: Int]?

  /// Up to here a linear search is at least as fast as hashing a key.
  private static let linearLimit = 8

  package init() {}

  package var count: Int { keys.count }
  package var isEmpty: Bool { keys.isEmpty }

  /// Setting nil removes the member; setting an existing key keeps its place.
  package subscript(key: String) -> JSON? {
    get { position(of: key).map { values[$0] } }
    set {
      if let newValue { set(key, newValue) } else { remove(key) }
    }
  }

  package func position(of key: String) -> Int? {
    if let index { return index[ByteKey(key)] }
    let wanted = key.utf8
    return keys.firstIndex { $0.utf8.count == wanted.count && $0.utf8.elementsEqual(wanted) }
  }

  package mutating func set(_ key: String, _ value: JSON) {
    if let position = position(of: key) { values[position] = value } else { append(key, value) }
  }

  /// Appends a member; false, and nothing done, if the key is already there.
  package mutating func insertNew(_ key: String, _ value: JSON) -> Bool {
    if index != nil {
      // Adding nothing to a defaulted entry inserts it if absent, with a single hash of the key.
      index![ByteKey(key), default: keys.count] += 0
      guard index!.count > keys.count else { return false }
      keys.append(key)
      values.append(value)
      return true
    }
    guard position(of: key) == nil else { return false }
    append(key, value)
    return true
  }

  private mutating func append(_ key: String, _ value: JSON) {
    keys.append(key)
    values.append(value)
    if index != nil {
      index![ByteKey(key)] = keys.count - 1
    } else if keys.count > Self.linearLimit {
      index = Dictionary(uniqueKeysWithValues: keys.enumerated().map { (ByteKey($1), $0) })
    }
  }

  private mutating func remove(_ key: String) {
    guard let position = position(of: key) else { return }
    keys.remove(at: position)
    values.remove(at: position)
    if index != nil {
      index = Dictionary(uniqueKeysWithValues: keys.enumerated().map { (ByteKey($1), $0) })
    }
  }
}

extension JSONObject: Sequence {
  package func makeIterator() -> Zip2Sequence<[String], [JSON]>.Iterator {
    zip(keys, values).makeIterator()
  }
}

extension JSONObject: Equatable {
  /// Same members with the same values, in any order.
  package static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.count == b.count && zip(a.keys, a.values).allSatisfy { b[$0] == $1 }
  }
}

/// A string that hashes and compares by its UTF-8 bytes. Hashing is the standard library's keyed
/// one, so crafted keys cannot be made to collide.
package struct ByteKey: Hashable, Sendable {
  package let text: String

  package init(_ text: String) { self.text = text }

  package static func == (a: ByteKey, b: ByteKey) -> Bool {
    a.text.utf8.count == b.text.utf8.count && a.text.utf8.elementsEqual(b.text.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    let done: Void? = text.utf8.withContiguousStorageIfAvailable {
      hasher.combine(bytes: UnsafeRawBufferPointer($0))
    }
    if done == nil { for byte in text.utf8 { hasher.combine(byte) } }
  }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  package init(dictionaryLiteral elements: (String, JSON)...) {
    for (key, value) in elements { set(key, value) }
  }
}
