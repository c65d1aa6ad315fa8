//! Old versions: what an image is, and what there is to go back to.

use std::fs;

use super::Site;

impl Site {
    /// With a folder of images, and the image of all workloads in it.
    fn with_image(self, text: &str) -> Site {
        let config = fs::read_to_string(self.config()).expect("the file");
        let images = self.folder.path().join("images");
        fs::create_dir(&images).expect("a folder");
        let config = config.replace("[paths]\n", &format!("[paths]\nimages = {images:?}\n"));
        fs::write(self.config(), config).expect("a file");
        self.replace_image(text);
        self
    }

    fn replace_image(&self, text: &str) {
        let new = self.folder.path().join("images/new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.folder.path().join("images/i")).expect("it is replaced");
    }
}

#[test]
fn another_image_under_the_same_name_is_rolled_out() {
    let site = Site::with_fake().workload("web", "service", "serve", "").with_image("one");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    site.replace_image("two");
    daemon.wait_until(|line| line.starts_with("hearthd | web: version ") && line.ends_with(" on 1 first"));
    daemon.wait_for("web     | asked to stop");
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    daemon.stop();
}

#[test]
fn a_version_that_fails_under_the_next_daemon_gives_way_to_the_one_that_this_one_kept() {
    let site = Site::with_fake().workload("web", "service", "serve", "").with_image("one");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    daemon.stop();

    site.replace_image("two");
    let site = site.workload("web", "service", "crash 12", "");
    let mut daemon = site.start();
    daemon.wait_until(|line| line.starts_with("hearthd | web: ALARM: back from version "));
    daemon.wait_for("web     | serving");
    let image = &site.machine("web").block[0].path;
    assert!(image.starts_with(site.folder.path().join("store")), "{image:?}");
    assert_eq!(fs::read(image).expect("it is there"), b"one");
    daemon.stop();
}
