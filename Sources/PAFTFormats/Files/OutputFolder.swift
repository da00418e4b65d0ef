// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A folder that appears whole or not at all. Files are written into a hidden sibling; `commit`
/// makes all of them durable, renames the sibling to the target and makes the name durable. When
/// the object goes without commit, or the process dies, the target is as it was; what a dead
/// process left is swept by the next one (its lock is free, the living hold theirs).
package final class OutputFolder {
  /// Where the folder will stand.
  package let target: String
  /// Where files are written until then.
  package let path: String
  private let replacing: Bool
  private let lock: CInt
  private var committed = false

  /// - Parameters:
  ///   - replacing: nil where the person has no way to ask for it.
  ///   - resuming: asked for each folder that a dead process left whether to go on in it, as it is;
  ///     one that nobody wants is swept.
  ///
  /// Throws 73 when the target is a file or a folder with contents, unless `replacing`.
  package init(
    _ target: String, replacing: Bool? = nil,
    resuming: (_ unfinished: String) -> Bool = { _ in false }
  ) throws(Fault) {
    try checkedPath(target, .create)
    self.target = target
    self.replacing = replacing ?? false
    try Self.refuseOccupied(target, replacing: replacing)
    let parent = FileSystem.parent(of: target)
    try FileSystem.makeFolder(parent)
    let prefix = ".\(FileSystem.lastComponent(target)).tmp-"
    if let found = try Self.sweep(parent, prefix, sparing: resuming) {
      (path, lock) = found
      return
    }
    for attempt in 0..<1000 {
      let candidate = "\(parent)/\(prefix)\(getpid())-\(attempt)"
      guard mkdir(candidate, 0o777) == 0 else {
        if errno == EEXIST { continue }
        throw .system(.create, candidate)
      }
      // Another process may sweep it away between the making and the locking: then take the next.
      let descriptor = open(candidate, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0, FileSystem.isFolder(candidate) {
        path = candidate
        lock = descriptor
        return
      }
      close(descriptor)
    }
    throw Fault(.cannotCreate, "cannot create a temporary folder beside \(quoted(target))")
  }

  deinit {
    if !committed { try? FileSystem.remove(path) }
    close(lock)
  }

  // MARK: - Contents

  package func write(_ name: String, _ text: String) throws(Fault) {
    try FileSystem.write(text, to: path + "/" + name)
  }

  package func write(_ name: String, _ bytes: [UInt8]) throws(Fault) {
    try FileSystem.write(bytes, to: path + "/" + name)
  }

  package func write(_ name: String, _ json: JSON) throws(Fault) {
    try write(name, json.serialized(pretty: true) + "\n")
  }

  package func copy(_ source: String, as name: String? = nil) throws(Fault) {
    try FileSystem.copy(source, to: path + "/" + (name ?? FileSystem.lastComponent(source)))
  }

  // MARK: - Commit

  /// Makes the folder appear. With `manifest`, `manifest.json` is written last: the given members
  /// plus `files`, the size and CRC-32C of each.
  package func commit(manifest: JSONObject? = nil) throws(Fault) {
    precondition(!committed, "committed twice")
    if let manifest { try write(Manifest.fileName, .object(Manifest.describe(path, manifest))) }
    try Self.synchronizeTree(path)
    try Self.refuseOccupied(target, replacing: replacing)
    let parent = FileSystem.parent(of: target)
    var old: String?
    if replacing, FileSystem.exists(target), (try? FileSystem.list(target))?.isEmpty != true {
      // Two renames: a power cut between them leaves both folders whole, the new one hidden.
      old = "\(parent)/.\(FileSystem.lastComponent(target)).tmp-old-\(getpid())"
      try FileSystem.rename(target, to: old!)
    }
    do throws(Fault) { try FileSystem.rename(path, to: target) } catch {
      if let old { try? FileSystem.rename(old, to: target) }
      throw error
    }
    committed = true
    try FileSystem.synchronizeFolder(parent)
    if let old { try FileSystem.remove(old) }
  }

  private static func refuseOccupied(_ target: String, replacing: Bool?) throws(Fault) {
    switch FileSystem.kind(target) {
    case nil: return
    case .folder where replacing == true: return
    case .folder:
      guard try FileSystem.list(target).isEmpty else {
        throw Fault(
          .cannotCreate, "output folder \(quoted(target)) exists and is not empty",
          hint: "choose another folder" + (replacing == nil ? "" : ", or --overwrite to replace it")
        )
      }
    default:
      throw Fault(.cannotCreate, "output \(quoted(target)) exists and is not a folder")
    }
  }

  /// Removes what dead processes left beside the target, but for the first that is wanted: that one is
  /// returned, with its lock.
  private static func sweep(
    _ parent: String, _ prefix: String, sparing isWanted: (String) -> Bool
  ) throws(Fault) -> (path: String, lock: CInt)? {
    var spared: (path: String, lock: CInt)?
    for name in try FileSystem.list(parent) where name.hasPrefix(prefix) {
      let stale = parent + "/" + name
      let descriptor = open(stale, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
      guard descriptor >= 0 else { continue }
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 {
        if spared == nil, isWanted(stale) {
          spared = (stale, descriptor)
          continue
        }
        do throws(Fault) { try FileSystem.remove(stale) } catch {
          close(descriptor)
          if let spared { close(spared.lock) }
          throw error
        }
      }
      close(descriptor)
    }
    return spared
  }

  private static func synchronizeTree(_ folder: String) throws(Fault) {
    for name in try FileSystem.list(folder) {
      let path = folder + "/" + name
      if FileSystem.isFolder(path) {
        try synchronizeTree(path)
      } else {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw .system(.write, path) }
        defer { close(descriptor) }
        guard retrying({ Int(fsync(descriptor)) }) == 0 else { throw .system(.write, path) }
      }
    }
    try FileSystem.synchronizeFolder(folder)
  }
}
