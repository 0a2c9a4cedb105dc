"""Two folders of images without correspondence: the data of unsupervised deraining."""

from __future__ import annotations

from data.domain import Domain
from data.files import images_in, source_and_target
from data.loader import PASSED_OVER, DatasetSettings, Sample, TrainingDataset
from data.sampler import SampleKey
from data.transforms import Placement


class UnalignedDataset(TrainingDataset):
    """Pairs each source image with a target image of no relation.

    Images come from ``<dataroot>/<phase>A`` and ``<dataroot>/<phase>B``, sub-folders included; the folders
    may differ in number and size of images. An epoch has as many samples as the larger folder has images, and
    shows every image of both: the source image goes by the index, starting over where its folder is the smaller
    one, and the target images come in a random order of their own, or with ``serial_batches`` by the index as well.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        """Errors are those of :class:`data.loader.TrainingDataset`."""
        self.serial_batches = settings.serial_batches
        folders = [f"{settings.phase}{domain}" for domain in source_and_target(settings.direction)]
        images = [images_in(settings.dataroot, folder)[: settings.max_dataset_size] for folder in folders]
        self.source, self.target = (Domain(images[side], folders[side], settings, side=side) for side in (0, 1))

    def __len__(self) -> int:
        """Number of images in the larger folder."""
        return max(len(self.source), len(self.target))

    def __getitem__(self, key: SampleKey) -> Sample:
        """``A`` (source), ``B`` (target): float32 [C, H, W] in [-1, 1]; ``A_paths``, ``B_paths``: str."""
        generator = key.generator()
        source_place, target_place = Placement.draw(generator), Placement.draw(generator)
        a, a_path, a_notes = self.source.load(key.index % len(self.source), source_place)
        target_index = key.index % len(self.target) if self.serial_batches else key.partner(len(self.target))
        b, b_path, b_notes = self.target.load(target_index, target_place)
        return {"A": a, "B": b, "A_paths": a_path, "B_paths": b_path, PASSED_OVER: a_notes + b_notes}
