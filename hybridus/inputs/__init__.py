"""Images, masks, sizes and augmentation: every form in which callers hand data over."""
