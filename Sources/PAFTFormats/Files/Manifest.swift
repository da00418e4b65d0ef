// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// `manifest.json` of a folder: what each file must be. It is written last, so a folder whose
/// manifest verifies is complete.
///
///     {…members of the caller…, "files": {"a.bin": {"size": 12, "crc32c": "e3069283"}, …}}
package enum Manifest {
  package static let fileName = "manifest.json"

  /// Reads the manifest and checks every file against it: there, of that size, of that sum.
  /// Throws exit 82, naming the first file that differs. Returns the manifest's members.
  package static func verify(_ folder: String) throws(Fault) -> JSONObject {
    let path = folder + "/" + fileName
    let members: JSONObject
    do {
      guard let object = try JSON.read(path: path).object else {
        throw Fault(.checkpoint, "\(path): not a JSON object")
      }
      members = object
    } catch let error as any Diagnosable {
      throw Fault(.checkpoint, error.message)
    } catch { throw Fault(.checkpoint, "\(path): \(error)") }
    guard let files = members["files"]?.object else {
      throw Fault(.checkpoint, "\(path): no list of files")
    }
    for (name, entry) in files {
      guard let size = entry["size"]?.int, let sum = entry["crc32c"]?.string,
        !name.hasPrefix("/"), !name.split(separator: "/").contains("..")
      else { throw Fault(.checkpoint, "\(path): malformed entry \(quoted(name))") }
      let file: MappedFile
      do throws(Fault) { file = try MappedFile(folder + "/" + name) } catch {
        throw Fault(.checkpoint, error.message)
      }
      guard file.bytes.count == size else {
        throw Fault(
          .checkpoint, "\(file.path): \(file.bytes.count) bytes, the manifest says \(size)")
      }
      let found = hex(file.withBytes { CRC32C.of($0) })
      guard found == sum else {
        throw Fault(.checkpoint, "\(file.path): checksum \(found), the manifest says \(sum)")
      }
    }
    return members
  }

  /// The caller's members plus the files now in `folder`, at any depth.
  static func describe(_ folder: String, _ members: JSONObject) throws(Fault) -> JSONObject {
    var files = JSONObject()
    try describe(folder, "", into: &files)
    var manifest = members
    manifest["files"] = .object(files)
    return manifest
  }

  private static func describe(_ folder: String, _ prefix: String, into files: inout JSONObject)
    throws(Fault)
  {
    for name in try FileSystem.list(folder) where prefix + name != fileName {
      let path = folder + "/" + name
      if FileSystem.isFolder(path) {
        try describe(path, prefix + name + "/", into: &files)
      } else {
        let file = try MappedFile(path)
        files[prefix + name] = [
          "size": JSON(file.bytes.count), "crc32c": .string(hex(file.withBytes { CRC32C.of($0) })),
        ]
      }
    }
  }

  private static func hex(_ sum: UInt32) -> String {
    let digits = String(sum, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}
