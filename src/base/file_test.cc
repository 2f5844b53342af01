#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/test_files.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }
  static std::string Text(const std::string& path) {
    const auto bytes = ReadFile(path, 1 << 20);
    return bytes.ok() ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size())
                      : bytes.status().message();
  }
  size_t FilesInFolder() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
  }

  TemporaryFolder folder_;
};

TEST_F(FileTest, ReadsWhatWasWritten) {
  const std::string text(10000, 'x');
  ASSERT_TRUE(WriteFile(Path("a"), text).ok());
  EXPECT_EQ(Text(Path("a")), text);
  ASSERT_TRUE(WriteFile(Path("empty"), "").ok());
  EXPECT_EQ(Text(Path("empty")), "");
  EXPECT_EQ(FilesInFolder(), 2u);
}

TEST_F(FileTest, ReadFileKeepsToItsLimit) {
  ASSERT_TRUE(WriteFile(Path("a"), "12345678").ok());
  EXPECT_TRUE(ReadFile(Path("a"), 8).ok());
  const auto refused = ReadFile(Path("a"), 7);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), ErrorCode::kBadFile);
  EXPECT_THAT(refused.status().message(), HasSubstr("7 bytes"));
  // /dev/zero states no size and never ends.
  EXPECT_EQ(ReadFile("/dev/zero", 100000).status().code(), ErrorCode::kBadFile);
}

TEST_F(FileTest, ErrorsNamePathAndReason) {
  const auto missing = ReadFile(Path("none"), 10);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr(Path("none") + "': No such file or directory"));
  EXPECT_THAT(ReadFile(folder_.path(), 10).status().message(), HasSubstr("Is a directory"));
  EXPECT_EQ(AtomicFileWriter::Create(Path("no/such/file")).status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(AtomicFileWriter::Create(folder_.path()).status().message(), HasSubstr("Is a directory"));
}

TEST_F(FileTest, WriterRefusesDevices) {
  const auto writer = AtomicFileWriter::Create("/dev/null");
  ASSERT_FALSE(writer.ok());
  EXPECT_THAT(writer.status().message(), HasSubstr("not a regular file"));
}

TEST_F(FileTest, AbandonedWriteLeavesTheOldFileAlone) {
  ASSERT_TRUE(WriteFile(Path("a"), "old").ok());
  {
    auto writer = AtomicFileWriter::Create(Path("a"));
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Write("new").ok());
    EXPECT_EQ(FilesInFolder(), 2u);
  }
  EXPECT_EQ(Text(Path("a")), "old");
  EXPECT_EQ(FilesInFolder(), 1u);
}

TEST_F(FileTest, WritesThroughALink) {
  ASSERT_TRUE(WriteFile(Path("real"), "old").ok());
  fs::create_symlink("real", Path("link"));
  ASSERT_TRUE(WriteFile(Path("link"), "new").ok());
  EXPECT_TRUE(fs::is_symlink(Path("link")));
  EXPECT_EQ(Text(Path("real")), "new");
}

TEST_F(FileTest, NewFilesFollowTheUmask) {
  const mode_t old = umask(027);
  ASSERT_TRUE(WriteFile(Path("a"), "x").ok());
  umask(old);
  EXPECT_EQ(fs::status(Path("a")).permissions() & fs::perms::all, static_cast<fs::perms>(0640));
}

TEST(FolderOfTest, TakesTheLastSlash) {
  EXPECT_EQ(FolderOf("a/b/c.onnx"), "a/b");
  EXPECT_EQ(FolderOf("c.onnx"), ".");
  EXPECT_EQ(FolderOf("/c.onnx"), "/");
}

}  // namespace
}  // namespace octavo
